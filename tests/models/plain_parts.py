"""A `Parts` without plan, cache format or kernels: gguf's decoder, float32 torch, one device.

It checks names and shapes as the contract says, so that a model's wiring is tested by itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from hybrid.errors import UnsupportedModel
from hybrid.models.ending import NormedHead
from hybrid.models.parts import (
    Block,
    Embedding,
    Ending,
    Experts,
    HeadLinear,
    Linear,
    Norm,
    Router,
)
from kernels.expert_ffn import add_weighted, expert_rows, gated
from kernels.rms_norm import rms_norm
from kernels.router import RouterRules, choose_experts


@dataclass(frozen=True)
class FileTensor:
    shape: tuple[int, ...]
    reader: Any

    def values(self) -> Tensor:
        decoded = gguf.quants.dequantize(self.reader.data, self.reader.tensor_type)
        return torch.from_numpy(np.array(decoded, dtype=np.float32)).view(self.shape)


@dataclass(frozen=True)
class PlainFile:
    """A GGUF, whole or split, through the gguf package."""

    path: Path

    @cached_property
    def _readers(self) -> list[Any]:
        numbered = re.fullmatch(r"(.*-)\d{5}(-of-(\d{5})\.gguf)", self.path.name)
        if not numbered:
            return [gguf.GGUFReader(self.path)]
        names = [f"{numbered[1]}{i + 1:05d}{numbered[2]}" for i in range(int(numbered[3]))]
        return [gguf.GGUFReader(self.path.with_name(name)) for name in names]

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        return {f.name: f.contents() for f in self._readers[0].fields.values() if f.types}

    @cached_property
    def tensors(self) -> Mapping[str, FileTensor]:
        return {
            t.name: FileTensor(tuple(int(n) for n in reversed(t.shape)), t)
            for reader in self._readers
            for t in reader.tensors
        }


@dataclass(frozen=True)
class PlainCache:
    """One layer's rows, as many as were reserved."""

    rows: Tensor

    def write(self, start: int, rows: Tensor) -> None:
        self.rows[start : start + len(rows)] = rows

    def read(self, end: int) -> Tensor:
        return self.rows[:end]


@dataclass(frozen=True)
class PlainHeads:
    weight: Tensor

    def __call__(self, x: Tensor, heads: slice, *, transposed: bool = False) -> Tensor:
        weight = self.weight[heads].mT if transposed else self.weight[heads]
        return (weight @ x[..., None])[..., 0]


@dataclass(frozen=True)
class PlainExperts:
    gate: Tensor
    up: Tensor
    down: Tensor

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for rows in expert_rows(chosen, 0, len(self.gate)):
            x_e, e = x[rows.tokens], rows.expert
            hidden = gated(x_e @ self.gate[e].T, x_e @ self.up[e].T)
            add_weighted(out, hidden @ self.down[e].T, share, rows)
        return out


class PlainParts:
    def __init__(self, file: PlainFile) -> None:
        self._file = file
        self.read: set[str] = set()  # names of all tensors that were asked for

    def has(self, name: str) -> bool:
        return name in self._file.tensors

    def embedding(self, name: str, vocabulary: int, width: int) -> Embedding:
        weight = self._weight(name, vocabulary, width)
        return lambda ids: weight[ids]

    def linear(self, name: str, rows: int, columns: int) -> Linear:
        weight = self._weight(name, rows, columns)
        return lambda x: x @ weight.T

    def norm(self, name: str, width: int, epsilon: float) -> Norm:
        weight = self._weight(name, width)
        return lambda x: rms_norm(x, weight, epsilon)

    def head_linear(
        self, name: str, shape: tuple[int, int, int], rows: slice | None = None
    ) -> HeadLinear:
        heads, height, columns = shape
        flat = len(self._file.tensors[name].shape) == 2
        stored = (heads * height, columns) if flat else shape
        weight = self._weight(name, *stored).view(shape)
        return PlainHeads(weight if rows is None else weight[:, rows])

    def router(self, gate: str, bias: str | None, width: int, rules: RouterRules) -> Router:
        weight = self._weight(gate, rules.experts, width)
        offset = self._weight(bias, rules.experts) if bias else None
        return lambda x: choose_experts(x @ weight.T, offset, rules)

    def experts(self, layer: int, count: int, width: int, feed_forward: int) -> Experts:
        block = f"blk.{layer}.ffn_"
        down = self._weight(f"{block}down_exps.weight", count, width, feed_forward)
        if self.has(f"{block}gate_up_exps.weight"):
            both = self._weight(f"{block}gate_up_exps.weight", count, 2 * feed_forward, width)
            return PlainExperts(both[:, :feed_forward], both[:, feed_forward:], down)
        gate = self._weight(f"{block}gate_exps.weight", count, feed_forward, width)
        return PlainExperts(
            gate, self._weight(f"{block}up_exps.weight", count, feed_forward, width), down
        )

    def place(self, layer: int, block: Block) -> Block:
        return block

    def ending(self, norm: Norm, head: Linear) -> Ending:
        return NormedHead(norm, head)

    def _weight(self, name: str, *shape: int) -> Tensor:
        tensor = self._file.tensors.get(name)
        if tensor is None or tensor.shape != shape:
            found = "missing" if tensor is None else list(tensor.shape)
            raise UnsupportedModel(f"{name} is {found}", f"{list(shape)} wanted", remedy="none")
        self.read.add(name)
        return tensor.values()
