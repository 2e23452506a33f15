"""What the platform stands on: settings, the clock, PostgreSQL, the lake, dlt. Knows nothing of assets."""
