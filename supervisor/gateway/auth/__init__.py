"""Who may come in: keys, hosts, origins."""
