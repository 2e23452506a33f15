"""The demo: it runs real flights through the whole platform."""
