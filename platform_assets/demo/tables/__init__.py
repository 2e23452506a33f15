"""The demo's tables: one file says all about a table. Yours live where LAKEBED_TABLES says."""
