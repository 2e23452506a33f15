"""The platform: source tables, their loads, their tiers, the models on top, and the Dagster graph of it all."""
