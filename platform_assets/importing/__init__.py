"""Bring a whole database into PostgreSQL: its rows, and the structure around them."""
