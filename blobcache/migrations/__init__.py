"""The migrations: two models without tables, the journal, and jobs."""
