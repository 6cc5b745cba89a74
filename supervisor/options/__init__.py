"""
The language of llama-server's command line, as values.

A profile's options are *meanings*; a build accepts *spellings*.  ``meanings`` knows which option a spelling
stands for, ``help`` reads what one build accepts from its own ``--help``, ``dialect`` holds the renames
between eras, ``render`` turns meanings into the spelling of one build, and ``parse`` turns a pasted raw
option list back into meanings.
"""
