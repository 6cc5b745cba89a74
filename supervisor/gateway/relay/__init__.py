"""
HTTP between clients and llama-server: parsed strictly, relayed as bytes; a partial answer is always visible.
"""
