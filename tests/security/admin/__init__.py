"""Pages of the admin that must not do other than they say."""
