"""
A llama-server made of the PyPI wheel ``xllamacpp``, which holds llama.cpp's own C++ server.

The venv's interpreter runs ``__main__.py`` by its path, so only the standard library and xllamacpp may be
imported here.  Options, help and errors look like llama-server's; the rest is the same C++.  Two things
differ: there is no router and no download, so ``--model`` must name a file; and the first TERM or INT after
the load exits at once with 0, even with a request in flight.
"""
