"""Installs an official release: verified, unpacked without trusting it, tested, recorded."""
