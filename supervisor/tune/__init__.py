"""The fastest settings for this machine, found by measuring: `search` (pure) asks for trials."""
