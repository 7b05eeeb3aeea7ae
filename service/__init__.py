"""Serves published versions over HTTP, after replaying their golden answers."""
