"""Requests to the API that are hostile, or merely misunderstood."""
