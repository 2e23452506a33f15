"""The command `lakebed`: thin, over the same functions that the assets call."""
