"""The command line: one file per noun; parse, call, print."""

COMPLETING = "_GOSS_SUPERVISOR_COMPLETE"  # click's name for it: set where a shell asks
