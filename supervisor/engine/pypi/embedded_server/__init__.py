"""
A llama-server made of the PyPI wheel ``xllamacpp``, which holds llama.cpp's own C++ server.

Stands alone: the private environment's interpreter runs ``__main__.py`` with ``-I -X utf8``, and nothing
but the standard library and xllamacpp may be imported here.  ``--help``, ``--version`` and
``--list-devices`` have llama-server's shape, unknown options and bad values end as they do there, and
the rest is the same C++: it binds its port before it loads (503 meanwhile), logs to stderr, and says
why it cannot start.

Two things differ.  There is no router and no download, so ``--model`` must name a file.  And the first
TERM or INT after the load ends the process at once with 0, also with a request in flight, where
llama-server would wait for the client: nothing is left that the kernel would not free.  During the load
both end it by their default action, as with llama-server.
"""
