"""What is kept and counted of requests, never their content."""
