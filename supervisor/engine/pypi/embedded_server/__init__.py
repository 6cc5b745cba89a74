"""
A llama-server made of the PyPI wheel ``xllamacpp``, which holds llama.cpp's own C++ server.

Stands alone: the private environment's interpreter runs ``__main__.py``, and nothing but the standard
library and xllamacpp may be imported here.  Options, help and errors have llama-server's shape, the rest is
the same C++.  Two things differ: there is no router and no download, so ``--model`` must name a file; and the
first TERM or INT after the load ends the process at once with 0, also with a request in flight.
"""
