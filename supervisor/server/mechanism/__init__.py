"""How a child is started, signalled and found again: one module for each system."""
