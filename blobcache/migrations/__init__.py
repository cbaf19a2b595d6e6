"""The migrations: of two models that have no tables."""
