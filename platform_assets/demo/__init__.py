"""The demo: real flights through all of the platform."""
