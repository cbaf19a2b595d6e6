"""Tests against a real registry, a real Redis and the tools that people push and pull with."""
