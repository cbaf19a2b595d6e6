"""Tags for our templates in the admin."""
