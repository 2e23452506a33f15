"""Backup, rollback and what is undone of a load."""
