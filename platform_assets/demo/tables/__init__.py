"""The demo's tables: one file describes one table. Yours are in the folder LAKEBED_TABLES."""
