"""The platform: source tables, their loads and tiers, the models on top, and the Dagster graph."""
