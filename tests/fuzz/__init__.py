"""The API against its own schema, by generated requests; run as `make fuzz`."""
