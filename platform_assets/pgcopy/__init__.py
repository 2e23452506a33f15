"""Rows of Arrow as PostgreSQL's COPY takes them, and cold rows on their way back."""
