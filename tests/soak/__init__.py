"""Soak: seeded attempts to break the program, far more than `make test` has time for."""
