"""What is wrong with this machine and this home, and what to do about it."""
