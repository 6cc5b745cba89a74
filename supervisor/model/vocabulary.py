"""The part of a vocabulary that every gpt-oss model has: 256 bytes in GPT-2's spelling, harmony's markers."""

from __future__ import annotations

NORMAL, CONTROL, UNUSED = 1, 3, 5  # llama.cpp's token types

MARKERS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)


def _spellings() -> tuple[str, ...]:
    """
    How a GPT-2 vocabulary writes each byte: printable ones as they are, the others from U+0100 on.

    Source: bytes_to_unicode in https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = _spellings()


def spelled(text: str) -> str:
    """``text`` as a GPT-2 vocabulary writes it: `` I`` becomes ``ĠI``."""
    return "".join(BYTES[byte] for byte in text.encode())
