"""Tiering: which partitions are due, and their move from PostgreSQL to the lake and back."""
