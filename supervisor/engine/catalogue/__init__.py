"""The releases of llama.cpp on GitHub: the list, the content of each, and a cache of both."""
