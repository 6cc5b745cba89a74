"""The address that clients use: it stays the same across restarts and switches of the server behind it."""
