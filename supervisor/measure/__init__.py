"""How fast a server is, and whether another build is faster."""
