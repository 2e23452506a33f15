"""Export any table or model to a file: CSV, Parquet, or one DuckDB file."""
