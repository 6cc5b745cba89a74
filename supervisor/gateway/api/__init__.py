"""What a request means in the APIs that clients speak, and what we say in them."""
