"""Counts bytes of tensors that are alive: what a pass takes beside what stood before it."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """peak: the most bytes at a time of storages that were made inside.

    Storages that ops make inside themselves and drop again are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        before = {self._storage(each) for each in tree_leaves((args, kwargs)) if _is_tensor(each)}
        out = function(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(out)):
            address = self._storage(tensor)
            if address not in before and address not in self._live:
                storage = tensor.untyped_storage()
                self._live[address] = storage.nbytes()
                weakref.finalize(storage, self._live.pop, address, None)
        self.peak = max(self.peak, sum(self._live.values()))
        return out

    @staticmethod
    def _storage(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
