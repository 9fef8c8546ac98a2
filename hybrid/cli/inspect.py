"""`hybrid inspect`: what a GGUF file holds, of any architecture. Imports no torch."""

import argparse
import math
from typing import Any

from hybrid.cli.file_facts import file_facts, metadata_facts, tensor_facts
from hybrid.cli.output import note, print_json, table
from hybrid.cli.parser import add_model, need_model
from hybrid.errors import UnsupportedModel
from hybrid.gguf.inventory import inventory
from hybrid.gguf.reader import GgufFile
from hybrid.models.config import ModelConfig
from hybrid.runtime.prepare import model_path
from placement.units import format_bytes

LONG_TEXT = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--tensors", action="store_true", help="every tensor")
    parser.add_argument("--metadata", action="store_true", help="every key")
    parser.add_argument("--json", action="store_true", help="one object on stdout")


def run(args: argparse.Namespace) -> int:
    with GgufFile.open(model_path(need_model(args))) as file:
        config = _config(file)
        stock = inventory(file, config.shape()) if config else None
        facts = file_facts(file, config, stock)
        if args.tensors:
            facts["tensors"] = tensor_facts(file, stock)
        if args.metadata:
            facts["metadata"] = metadata_facts(file)
    if args.json:
        print_json(_finite(facts))
    else:
        print("\n\n".join(_section(name, value) for name, value in facts.items() if value))
    return 0


def _config(file: GgufFile) -> ModelConfig | None:
    try:
        return ModelConfig.from_gguf(file)
    except UnsupportedModel as error:
        note(f"{error.cause}; shown without roles")
        return None


def _section(name: str, value: Any) -> str:
    title = name.replace("_", " ")
    if isinstance(value, dict):
        rows = [[key, _shown(key, entry)] for key, entry in value.items()]
    else:
        names = list(value[0])
        rows = [names, *([_shown(key, row[key]) for key in names] for row in value)]
    return f"{title}\n{table(rows, indent='  ')}"


def _shown(key: str, value: Any) -> str:
    """Bytes by their key's name as sizes, lists short, texts on one line."""
    if isinstance(value, int) and not isinstance(value, bool) and key.endswith("bytes"):
        return format_bytes(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(key, entry)}" for name, entry in value.items())
    if value is None:
        return "-"
    if isinstance(value, list):
        inner = ", ".join(str(entry) for entry in value[:8])
        more = f", ... ({len(value)} values)" if len(value) > 8 else ""
        value = f"[{inner}{more}]"
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= LONG_TEXT else f"{text[:LONG_TEXT]}... ({len(text)} characters)"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; such numbers become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value
