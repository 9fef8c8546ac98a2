"""A byte-level BPE vocabulary in a few lines: DeepSeek's special tokens, 256 bytes, some merges."""

import gguf

MERGES = ["Ġ t", "h e", "Ġ a", "i n", "Ġt he", "e r", "o n", "r e", "Ġ s", "a t", "n d", "Ġa nd"]
SPECIAL_TOKENS = [
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
]
NORMAL, CONTROL, UNUSED = 1, 3, 5  # tokenizer.ggml.token_type


def write_vocabulary(writer: gguf.GGUFWriter, tokens: int) -> None:
    """All tokenizer keys; padded with unused tokens up to `tokens`."""
    merged = [merge.replace(" ", "") for merge in MERGES]
    normal = byte_characters() + merged
    padding = [f"[PAD{i}]" for i in range(tokens - len(SPECIAL_TOKENS) - len(normal))]
    types = [CONTROL] * len(SPECIAL_TOKENS) + [NORMAL] * len(normal) + [UNUSED] * len(padding)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("deepseek-v3")
    writer.add_token_list(SPECIAL_TOKENS + normal + padding)
    writer.add_token_types(types)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte: itself, or the next one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
