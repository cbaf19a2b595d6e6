"""A portal with the entrance that tests run as a server of its own."""
