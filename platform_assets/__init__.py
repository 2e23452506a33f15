"""The platform: source tables, their loads and tiers, the models on top, and the Dagster graph.

This folder is the package `lakebed`: so it is installed, and so the checkout links to it.
"""

if __name__ != "lakebed":
    raise ImportError(f"import lakebed, not {__name__}: a class of both names would be two classes")
