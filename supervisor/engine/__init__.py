"""llama.cpp builds: where they come from, what they accept, and which one serves a profile."""
