"""Downloads: resumed, retried, verified, and complete or absent."""
