"""Incident notifications: durable delivery, outbox and wording."""
