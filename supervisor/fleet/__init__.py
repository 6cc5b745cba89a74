"""All servers of a daemon, by name."""
