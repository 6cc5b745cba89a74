"""Watching the memory of one llama-server, and what is left beside it."""
