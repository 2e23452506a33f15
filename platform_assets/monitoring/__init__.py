"""Status, health, doctor and metrics: what is true of the platform now."""
