"""Alembic's entry: it writes the revisions as one SQL script, which `storage_service.migrate` runs.

So Alembic needs no driver of its own, and a revision is SQL alone: it can't look at data from Python.
"""

from alembic import context

if not context.is_offline_mode():
    raise SystemExit("Run `python -m storage_service.migrate`; it takes the database from HEARTH_DATABASE_URL.")

# No BEGIN and COMMIT in the script: whoever runs it has a transaction open, with the lock.
context.configure(dialect_name="postgresql", transactional_ddl=False)
context.run_migrations()
