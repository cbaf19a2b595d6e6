"""How fast the app is, beside what it is measured against. Not part of the distribution.

python -m benchmarks [NAME ...] [--short] [--json FILE]
"""
