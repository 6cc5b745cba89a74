"""llama-server's command line as values: a profile's options are *meanings*, a build accepts *spellings*."""
