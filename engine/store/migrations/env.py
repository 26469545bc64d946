"""Alembic's environment: works on the connection and in the transaction of `Database.migrate`."""

from alembic import context

from trimtab.engine.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite rolls back DDL, too: a revision that is cut short leaves nothing behind.
    transactional_ddl=True,
)
context.run_migrations()
