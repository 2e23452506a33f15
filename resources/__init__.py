"""What the platform stands on: settings, clock, PostgreSQL, the lake, dlt. Knows no assets."""
