"""PostgreSQL's tables: the DDL of a table file, the plan of its changes, and their application."""
