"""The long-running process: it owns the servers and answers on the control socket."""
