"""Descriptors in Redis, in the registry's own layout."""
