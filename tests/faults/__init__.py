"""Every fault that the program is tried with: what the reliability page lists, and what chaos draws from."""
