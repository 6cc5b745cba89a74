"""Which archives of a release suit a computer, the best first, each with its reason.  Pure."""
