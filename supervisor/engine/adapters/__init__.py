"""What is particular to an engine, by one contract: llama-server, and any other program by its command."""
