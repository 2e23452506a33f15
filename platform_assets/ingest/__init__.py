"""Ingest: from source files, through dlt, into the hot tier, each row exactly once."""
