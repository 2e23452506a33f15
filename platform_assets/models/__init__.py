"""SQL models: files of dbt-like SQL become a checked, ordered set of queries.

This package reads references, options, compiled SQL, columns and lineage from the text of a model,
and builds models. It does not import dagster; orchestration/ makes the assets. Compiled SQL names
its inputs as "flights" or "stg_flights"; the session that runs it has a view for each name.
"""
