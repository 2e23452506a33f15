"""The base of the platform: settings, clock, PostgreSQL, the lake, dlt. Knows no assets.

This folder is the package `lakebed.resources`.
"""

if __name__ != "lakebed.resources":
    raise ImportError(f"import lakebed.resources, not {__name__}: its classes would be there twice")
