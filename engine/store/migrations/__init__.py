"""Alembic revisions of the event tables, run by `trimtab.engine.store.database`."""
