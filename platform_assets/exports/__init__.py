"""The way out to files: CSV, Parquet, or one DuckDB file of any table or model."""
