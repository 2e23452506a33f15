"""Doors: how programs without Lakebed read both tiers."""
