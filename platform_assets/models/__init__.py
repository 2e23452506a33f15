"""SQL models: files of dbt-like SQL become a checked, ordered set of queries.

Here belongs what can be said about a model from its text: its references, options, compiled SQL,
columns and lineage. Modules of this package but assets.py import no dagster. What a model reads is
named in its SQL as "flights" or "stg_flights"; the connection that runs it gives these names a
meaning.
"""
