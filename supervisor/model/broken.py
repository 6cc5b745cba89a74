"""What a file is that is no GGUF, or a broken one."""

from __future__ import annotations

# What people put in place of a model, by its first bytes in lower case.
_OTHERS = (
    (b"lmgg", "a file of llama.cpp's old format ggml, of before August 2023"),
    (b"fmgg", "a file of llama.cpp's old format ggmf, of before August 2023"),
    (b"tjgg", "a file of llama.cpp's old format ggjt, of before August 2023"),
    (b"algg", "an adapter in llama.cpp's old format ggla"),
    (b"version https://git-lfs", "a git-lfs pointer, which stands for a file that was not downloaded"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b'{"error"', "the error message of a web server"),
    (b"entry not found", "the error message of a web server"),
    (b"invalid username or password", "the error message of a web server"),
    (b"pk\x03\x04", "a zip archive or a PyTorch checkpoint"),
)
_HTML_LEADS = b"\xef\xbb\xbf \t\r\n"


class BrokenHeader(Exception):
    """What the file is instead of a model, as the end of the sentence "It is …"."""


def what_instead(beginning: bytes) -> str:
    """The same for a file that does not begin as a GGUF does."""
    if not beginning:
        return "empty"
    start = beginning[:64].lstrip(_HTML_LEADS).lower()
    for magic, name in _OTHERS:
        if start.startswith(magic):
            return name
    if beginning[8:9] == b"{" and b'"' in beginning[9:64]:  # a JSON header behind its length in eight bytes
        return "a safetensors file"
    if not beginning.strip(b"\0"):
        return "nothing but zeros, as a broken download leaves it"
    return f"no GGUF: it begins with {beginning[:4]!r}"
