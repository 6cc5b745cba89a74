"""Keeps a local LLM running: a YAML profile becomes a watched, self-healing llama-server."""

__version__ = "0.1.0"
