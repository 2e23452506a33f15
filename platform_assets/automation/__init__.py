"""What runs without a hand: sensors, schedules, alerts, and the processes of `lakebed up`."""
