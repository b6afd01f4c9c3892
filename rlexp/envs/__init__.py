"""Environments: what is configured, what is known of one, and many at once on any simulator."""
