"""Pages of the admin must do exactly what they say."""
