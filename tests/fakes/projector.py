"""
Projectors (mmproj) of a few layers for the real llama-server, without weights: for tests and bench.

Keys and tensors are those of load_hparams and load_tensors in tools/mtmd/clip.cpp of b11434.
"""

from __future__ import annotations
