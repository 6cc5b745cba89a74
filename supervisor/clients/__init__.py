"""What the programs that talk to us want to be told: their configuration, to be pasted.  Pure."""
