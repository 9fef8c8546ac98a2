"""A GGUF file as plain data: hyper-parameters, tokenizer, bytes by format, role and layer."""

from collections import Counter
from dataclasses import asdict
from enum import Enum
from typing import Any

from hybrid.gguf.reader import GgufFile
from hybrid.models.config import ModelConfig
from placement.inventory import ModelInventory
from placement.tensor_names import number_ranges

Facts = dict[str, Any]


def file_facts(file: GgufFile, config: ModelConfig | None, stock: ModelInventory | None) -> Facts:
    """Sections in the order they are shown; without `config` those that need none."""
    facts: Facts = {
        "file": {
            "path": str(file.path),
            "parts": len(file.paths),
            "gguf_version": file.version,
            "architecture": file.metadata.get("general.architecture"),
            "name": file.metadata.get("general.name"),
            "tensors": len(file.tensors),
            "tensor_bytes": sum(tensor.nbytes for tensor in file.tensors.values()),
            "data_present": file.data_bytes_present,
        },
        "hyper_parameters": _flat(asdict(config)) if config else {},
        "tokenizer": _tokenizer(file),
        "formats": _formats(file),
    }
    if stock is not None:
        facts["roles"] = _roles(stock)
        facts["layers"] = _layers(stock)
    return facts


def tensor_facts(file: GgufFile, stock: ModelInventory | None) -> list[Facts]:
    """One row per tensor in file order."""
    roles = {info.name: info.role.value for info in stock.tensors} if stock else {}
    return [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "format": tensor.format.name,
            "bytes": tensor.nbytes,
            "role": roles.get(tensor.name),
            "part": tensor.part,
            "offset": tensor.offset,
        }
        for tensor in file.tensors.values()
    ]


def metadata_facts(file: GgufFile) -> Facts:
    return dict(file.metadata)


def _flat(values: Facts, prefix: str = "") -> Facts:
    """Nested records with dotted names."""
    flat: Facts = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value.value if isinstance(value, Enum) else value
    return flat


def _tokenizer(file: GgufFile) -> Facts:
    known = file.metadata
    tokens, template = (
        known.get("tokenizer.ggml.tokens"),
        known.get("tokenizer.chat_template"),
    )
    return {
        "kind": known.get("tokenizer.ggml.model"),
        "pre": known.get("tokenizer.ggml.pre"),
        "tokens": len(tokens) if isinstance(tokens, list) else 0,
        "bos": known.get("tokenizer.ggml.bos_token_id"),
        "eos": known.get("tokenizer.ggml.eos_token_id"),
        "chat_template_characters": len(template) if isinstance(template, str) else 0,
    }


def _formats(file: GgufFile) -> list[Facts]:
    counts: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for tensor in file.tensors.values():
        counts[tensor.format.name] += 1
        nbytes[tensor.format.name] += tensor.nbytes
    return [
        {"format": name, "tensors": counts[name], "bytes": size}
        for name, size in nbytes.most_common()
    ]


def _roles(stock: ModelInventory) -> list[Facts]:
    counts = Counter(info.role for info in stock.tensors)
    ordered = sorted(stock.by_role().items(), key=lambda item: -item[1])
    return [
        {"role": role.value, "tensors": counts[role], "bytes": size, "loaded": role.is_loaded}
        for role, size in ordered
    ]


def _layers(stock: ModelInventory) -> list[Facts]:
    """Bytes of a block by role; blocks that are alike in one row."""
    by_layer: dict[int, Counter[str]] = {}
    for info in stock.tensors:
        if info.layer is not None:
            by_layer.setdefault(info.layer, Counter())[info.role.value] += info.nbytes
    alike: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for layer, sizes in sorted(by_layer.items()):
        alike.setdefault(tuple(sorted(sizes.items())), []).append(layer)
    return [
        {
            "blocks": number_ranges(layers),
            "each_bytes": sum(size for _, size in sizes),
            "role_bytes": dict(sizes),
        }
        for sizes, layers in alike.items()
    ]
