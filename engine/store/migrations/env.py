"""Alembic environment: uses the connection and transaction of `Database.migrate`."""

from alembic import context

from trimtab.engine.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite also rolls back DDL: an interrupted revision changes nothing.
    transactional_ddl=True,
)
context.run_migrations()
