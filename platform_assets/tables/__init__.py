"""The demo's tables: one file a table, all that there is to say about it. Yours go to LAKEBED_TABLES."""
