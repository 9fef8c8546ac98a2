"""`hybrid bench` and another program in turn on one model, round after round: times on a shared
machine wander, ratios within a round do so less.

    python -m tools.bench.peer MODEL --peer "PYTHON SCRIPT [FLAGS]" [--rounds 3] [--threads 2]
                               [--prompt 128] [--decode 24] [--flags "FLAGS of hybrid bench"]

The peer is called as PYTHON SCRIPT [FLAGS] MODEL --threads N --prompt N. Its last line on stdout is
JSON with prompt_tok_s, and decode_tok_s of tokens after that prompt. Each runs in a process of its
own, one at a time: the model has to fit into RAM once.

ratio    ours over the peer's, above 1 is faster; the last row holds each column's median
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tools.bench.flags import positive
from tools.bench.table import Cell, show

COLUMNS = (
    "round",
    "prompt ours tok/s",
    "prompt peer tok/s",
    "prompt ratio",
    "decode ours tok/s",
    "decode peer tok/s",
    "decode ratio",
)
SHOWN_LINES = 12  # of what a failed command said


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one program in one round."""

    prompt_tok_s: float
    decode_tok_s: float


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    rows: list[list[Cell]] = []
    name = ""
    for number in range(1, arguments.rounds + 1):
        ours = our_speed(last_json(our_command(arguments), arguments.timeout), arguments.prompt)
        answer = last_json(peer_command(arguments), arguments.timeout)
        peer, name = peer_speed(answer), str(answer.get("peer", "a peer"))
        rows.append(compared(number, ours, peer))
        print(f"round {number}: ours {ours}, peer {peer}", file=sys.stderr, flush=True)
    columns = list(zip(*rows, strict=True))
    middle = [statistics.median(map(float, column)) for column in columns[1:]]
    torch.set_num_threads(arguments.threads)  # what the machine's line tells is theirs
    title = f"hybrid against {name} on {Path(arguments.model).name}, prompt {arguments.prompt}"
    show(title, COLUMNS, [*rows, ["median", *middle]])


def our_command(arguments: argparse.Namespace) -> list[str]:
    """Depth 0 for the prompt; the peer decodes behind a prompt, so decoding is measured there."""
    return [
        *(sys.executable, "-m", "hybrid", "bench", "-m", arguments.model, "--json"),
        *("-p", str(arguments.prompt), "-n", str(arguments.decode)),
        *("-d", f"0,{arguments.prompt}", "-t", str(arguments.threads)),
        *shlex.split(arguments.flags),
    ]


def peer_command(arguments: argparse.Namespace) -> list[str]:
    sizes = ("--threads", str(arguments.threads), "--prompt", str(arguments.prompt))
    return [*shlex.split(arguments.peer), arguments.model, *sizes]


def our_speed(answer: dict[str, Any], prompt_tokens: int) -> Speed:
    """The prompt at depth 0 and decoding behind `prompt_tokens`, out of `hybrid bench --json`."""
    found = {(test["work"], test["depth_tokens"]): test["tok_s"] for test in answer["tests"]}
    return Speed(found["prompt", 0], found["decode", prompt_tokens])


def peer_speed(answer: dict[str, Any]) -> Speed:
    """Exits with the answer when a figure is missing or not above 0."""
    figures = [answer.get("prompt_tok_s"), answer.get("decode_tok_s")]
    if not all(isinstance(figure, int | float) and figure > 0 for figure in figures):
        raise SystemExit(f"error: the peer gave no prompt_tok_s and decode_tok_s: {answer}")
    return Speed(*figures)


def compared(number: int, ours: Speed, peer: Speed) -> list[Cell]:
    """One row of the table."""
    cells: list[Cell] = [number]
    for mine, other in (
        (ours.prompt_tok_s, peer.prompt_tok_s),
        (ours.decode_tok_s, peer.decode_tok_s),
    ):
        cells += [mine, other, mine / other]
    return cells


def last_json(command: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """The JSON object in the last line of a command's stdout.

    Exits with the command and what it said when it fails, takes too long or ends otherwise.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(command, f"took more than {timeout_s:g} s; --timeout allows more") from error
    except OSError as error:
        raise _failed(command, f"cannot be run: {error.strerror}") from error
    said = "\n".join((done.stderr + done.stdout).splitlines()[-SHOWN_LINES:])
    if done.returncode != 0:
        raise _failed(command, f"ended with {done.returncode}:\n{said}")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise _failed(command, f"ended without a line of JSON:\n{said}") from error
    if not isinstance(answer, dict):
        raise _failed(command, f"ended with JSON that is no object: {answer}")
    return answer


def _failed(command: Sequence[str], why: str) -> SystemExit:
    return SystemExit(f"error: {shlex.join(command)}\n  {why}")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="GGUF file that both run")
    parser.add_argument("--peer", required=True, help='"PYTHON SCRIPT [FLAGS]"')
    for name, default, what in (
        ("rounds", 3, "times that both run"),
        ("threads", 2, "of both"),
        ("prompt", 128, "tokens of the prompt"),
        ("decode", 24, "tokens that ours decodes; the peer knows its own count"),
        ("timeout", 1800, "seconds for one run of either"),
    ):
        parser.add_argument(f"--{name}", type=positive, default=default, help=f"{what} ({default})")
    parser.add_argument("--flags", default="", help='more flags of hybrid bench: "-r 5 -ub 128"')
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
