"""Readers: one module a kind of source."""
