"""Service managers: our units, property lists and tasks, rendered, installed, removed."""
