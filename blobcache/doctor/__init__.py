"""The doctor: finds what is wrong with a registry's cache, and repairs it."""
