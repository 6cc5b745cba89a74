"""HTTP between clients and llama-server: parsed strictly, relayed as bytes, never half and whole at once."""
