"""One supervised llama-server: a pure lifecycle, and the shell that carries its commands out."""
