"""The proof that an engine runs and computes rightly on the device that it is for."""
