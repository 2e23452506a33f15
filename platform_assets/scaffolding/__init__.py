"""Table files written from what a source or a PostgreSQL table is."""
