"""The sources of hardware detection: one small file per tool, library or part of a kernel."""
