"""Writes kernels/planar/codebooks_*.h from the `gguf` package's constants.

python -m tools.make_codebook_headers
"""

from pathlib import Path

import torch

from kernels.codebooks import codebook

FOLDER = Path(__file__).resolve().parents[1] / "kernels" / "planar"
FILES = {
    "codebooks_iq2.h": ("IQ2_XXS", "IQ2_XS", "IQ2_S"),
    "codebooks_iq1_iq3.h": ("IQ1_S", "IQ3_XXS", "IQ3_S"),
}
FIELD_BITS = {8: 2, 4: 4}  # by the group's length: a number's place among the book's numbers
WORDS_OF_A_LINE = 12


def header(name: str) -> str:
    """The text of one of FILES."""
    arrays = "\n".join(array(book) for book in FILES[name])
    return (
        "// Codebooks of formats_iq*.h, an entry a word. IQ1, IQ2: eight fields of two bits.\n"
        "// IQ3: four of four. Written by tools/make_codebook_headers.py.\n"
        f'#pragma once\n\n#include "cuda/device.h"\n\nnamespace hybrid {{\n\n{arrays}\n'
        "}  // namespace hybrid\n"
    )


def array(name: str) -> str:
    words = [f"0x{word:04x}," for word in packed(name)]
    lines = [
        "    " + " ".join(words[at : at + WORDS_OF_A_LINE])
        for at in range(0, len(words), WORDS_OF_A_LINE)
    ]
    kind = f"static __device__ const uint16_t {name.lower()}_book[{len(words)}]"
    return kind + " = {\n" + "\n".join(lines) + "\n};\n"


def packed(name: str) -> list[int]:
    book = codebook(name, torch.device("cpu")).int()
    place = torch.searchsorted(book.unique(), book)
    bits = FIELD_BITS[book.shape[1]]
    return (place << bits * torch.arange(book.shape[1])).sum(1).tolist()


if __name__ == "__main__":
    for file_name in FILES:
        (FOLDER / file_name).write_text(header(file_name))
