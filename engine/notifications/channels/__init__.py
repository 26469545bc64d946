"""Notification channels: Alertmanager, webhook, email."""
