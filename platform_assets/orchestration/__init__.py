"""The Dagster graph: assets, checks, jobs, sensors, runs, and the processes of `lakebed up`."""
