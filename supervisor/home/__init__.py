"""What is found of a running daemon: its socket, its records, its files, and how it is asked."""
