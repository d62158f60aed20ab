"""Hearth on embedded parts: PostgreSQL, Redis and a model server, and the supervisor behind `make run`."""
