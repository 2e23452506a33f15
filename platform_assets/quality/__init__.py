"""Contracts: the pandera model as the single source of types, and what it comes to elsewhere."""
