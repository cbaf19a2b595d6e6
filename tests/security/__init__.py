"""What a hostile request, user or writer must not be able to do."""
