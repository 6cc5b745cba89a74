"""The releases of llama.cpp on GitHub: which there are, what each holds, and what was said of them before."""
