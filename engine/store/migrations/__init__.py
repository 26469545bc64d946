"""Revisions of the tables of events, run by `trimtab.engine.store.database`; never by hand."""
