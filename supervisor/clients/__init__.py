"""Configuration for the programs that use our API, ready to paste.  Pure."""
