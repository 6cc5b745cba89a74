"""The APIs that clients use: what a request means, and our own answers in each format."""
