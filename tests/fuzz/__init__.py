"""Tests of the API against its own schema, with generated requests; run by `make fuzz`."""
