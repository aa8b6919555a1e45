"""What the user runs: command line, configuration, stages and recipes."""
