"""Benchmarks of the app, and of what it is compared with. Not part of the distribution.

python -m benchmarks [NAME ...] [--short] [--json FILE]
"""
