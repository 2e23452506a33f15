"""The state in PostgreSQL that loads and moves both change, and the platform in one object."""
