"""Policies as things that act and as files."""
