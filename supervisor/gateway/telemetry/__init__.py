"""Records and counters of requests, never their content."""
