"""GGUF files: writing the demo model, and telling a good file from a bad one before it is launched."""
