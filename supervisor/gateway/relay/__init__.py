"""HTTP between clients and llama-server: parsed strictly, relayed as bytes; a broken answer is visible."""
