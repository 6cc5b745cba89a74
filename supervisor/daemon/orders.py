"""
How ``start`` hands the daemon its orders: on descriptor 0, which the daemon reads once.

They hold secrets, so they are never written to disk, and no descriptor keeps them once they are read.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def take_orders() -> str:
    """Read them to their end, and put /dev/null in their place; "" where `start` found nothing to run."""
    text = sys.stdin.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())
    os.close(null)
    return text


if sys.platform != "win32":

    def give_orders(orders: bytes) -> None:
        """To the program that this process becomes by exec.  Raises OSError."""
        source = _memory_with(orders)
        if source is None:
            source = _pipe_with(orders)
        os.dup2(source, 0)
        if source:
            os.close(source)  # if the exec fails, nothing but stdin has them

    def _memory_with(orders: bytes) -> int | None:
        """A descriptor of memory; None where the system has no such thing."""
        if sys.platform == "linux":
            with suppress(AttributeError, OSError):
                descriptor = os.memfd_create("orders")
                with os.fdopen(descriptor, "wb", closefd=False) as memory:
                    memory.write(orders)
                os.lseek(descriptor, 0, os.SEEK_SET)
                return descriptor
        return None

    def _pipe_with(orders: bytes) -> int:
        """
        A pipe, which may hold less than the orders: another process fills it, since this one runs exec next.
        That process is nobody's child in the end, so the daemon has none that it does not know.
        """
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(source)
                if os.fork() == 0:
                    with os.fdopen(sink, "wb") as pipe:
                        pipe.write(orders)
            finally:
                os._exit(0)
        os.close(sink)
        os.waitpid(child, 0)
        return source
