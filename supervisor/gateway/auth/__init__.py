"""Access control: keys, hosts, origins."""
