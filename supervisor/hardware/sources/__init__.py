"""Who is asked what this computer is: one small file for each tool, library or part of a kernel."""
