"""The system's service manager: units, property lists and tasks of ours, rendered, installed, removed."""
