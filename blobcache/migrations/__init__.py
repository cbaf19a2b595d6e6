"""The migrations: two models without tables, and the journal."""
