"""Engines from the Python package index: llama.cpp compiled here, and its server as a library."""
