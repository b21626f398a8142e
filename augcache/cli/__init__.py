"""What a person types: the commands, their options, and how results and errors are printed."""
