"""
Projectors (mmproj) of a few layers for the real llama-server, without weights: for tests and bench.

Keys and tensors are those of load_hparams and load_tensors in tools/mtmd/clip.cpp of b11434.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.model.gguf import GGUFValue, Tensor, TensorType
from supervisor.model.gguf_writer import write_gguf

from .shapes import _demand_holes
