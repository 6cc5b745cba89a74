"""GGUF files: their headers, here and at the hub; pulling and checking them; and the demo model."""
