"""How a child process is started, signalled and watched: one module for each system."""
