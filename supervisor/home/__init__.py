"""A running daemon as other processes find it: its socket, its records, its files, and a client."""
