"""What one command does, for every caller: the command line, scripts and notebooks."""
