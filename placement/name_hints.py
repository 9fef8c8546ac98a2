"""The words of tensor names that a pattern's words may be misspelt ones of; the blocks there are.

exsp, atn     exps, attn: letters left out, too many, other ones, or two in the wrong order
attn_kv_b     attn_k_b or attn_v_b: whole kinds of tensors first
blk.61        blocks are 0 to 60
layers.3      blocks are called blk.0 to blk.60
"""

import re
from collections.abc import Iterable

from placement.inventory import ModelInventory
from placement.tensor_names import family

MOST_NAMED = 3  # words that are equally near
MOST_LETTERS = 40  # of a word that is compared

_ESCAPE = re.compile(r"\\[a-zA-Z]")
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_BLOCK = re.compile(r"blk(?:\\?\.|\[\.\])([0-9]{1,9})(?![0-9])")
_OTHERS_BLOCK = re.compile(r"(?:^|[^a-z])(?:layers?|blocks?)(?:\\?\.|\[\.\])[0-9\[(\\]")


def block_hint(pattern: str, inventory: ModelInventory) -> str:
    """For a pattern that names a block which is not there, or blocks as other files do."""
    last = inventory.shape.layers - 1
    found = _BLOCK.search(pattern)
    if found and int(found[1]) > last:
        return f"; this model's blocks are 0 to {last}"
    if _OTHERS_BLOCK.search(pattern.lower()):
        return f"; blocks are called blk.0 to blk.{last}"
    return ""


def word_hint(pattern: str, inventory: ModelInventory) -> str:
    """ "; did you mean exps?" for the first word that no tensor's name holds."""
    names = [tensor.name.lower() for tensor in inventory.tensors]
    kinds = list(dict.fromkeys(map(family, names)))
    words = list(dict.fromkeys(["blk", *(word for kind in kinds for word in kind.split("_"))]))
    for token in _WORD.findall(_ESCAPE.sub(" ", pattern).lower()):
        pieces = [piece for piece in token.split("_") if piece]
        for asked, known in ((token, kinds + words), *((piece, words) for piece in pieces)):
            if not any(asked in name for name in names) and (near := _nearest(asked, known)):
                return f"; did you mean {' or '.join(near)}?"
    return ""


def _nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words that as few changes as possible lead to; none where it takes too many."""
    most = 1 if len(word) < 7 else 2
    if not 3 <= len(word) <= MOST_LETTERS:
        return []
    changes = {it: _changes(word, it) for it in known if abs(len(it) - len(word)) <= most}
    least = min(changes.values(), default=most + 1)
    near = [it for it, count in changes.items() if count == least]
    near = [it for it in near if len(it) == len(word)] or near  # a slip, before a letter less
    return near if least <= most and len(near) <= MOST_NAMED else []


def _changes(first: str, second: str) -> int:
    """Letters left out, put in or changed, and neighbours swapped, from one word to the other."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(second, 1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            swapped = i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b
            row.append(min(least, older[j - 2] + 1) if swapped else least)
    return row[-1]
