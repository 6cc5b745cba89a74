"""YAML that people edit by hand, as typed values; every error with file, line and column."""
