"""A seeded mutation harness: `make fuzz MINUTES=30`, or python -m tests.fuzz --cases 500."""
