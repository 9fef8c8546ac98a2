"""The peer's side of `tools/bench/in_turn.py`, run by an interpreter with ik-llama-cpp-python."""

import argparse
import random
import sys
import time

from ik_llama_cpp import _ctypes_api as library
from ik_llama_cpp._internals import IkContext, IkModel, make_batch_range

PROMPT_TOKENS = 128
CONTEXT = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    model = IkModel(arguments.model, use_mmap=False)
    context = IkContext(model, n_ctx=CONTEXT, n_threads=arguments.threads, flash_attn=True)
    draw = random.Random(1)

    def decode(count: int, position: int) -> None:
        tokens = [draw.randrange(10, model.n_vocab) for _ in range(count)]
        failed = context.decode(make_batch_range(tokens, pos_start=position))
        if failed:
            raise SystemExit(f"error: the peer's decode returned {failed}")
        float(library.llama_get_logits_ith(context.ctx, -1)[0])  # until they are there

    decode(PROMPT_TOKENS, 0)
    position = PROMPT_TOKENS
    print("ready", flush=True)
    for line in sys.stdin:
        tokens = int(line)
        if position + tokens > CONTEXT:
            context.kv_cache_clear()
            decode(PROMPT_TOKENS, 0)
            position = PROMPT_TOKENS
        begin = time.perf_counter()
        for _ in range(tokens):
            decode(1, position)
            position += 1
        print(tokens / (time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    main()
