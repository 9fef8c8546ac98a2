"""`hybrid chat`: a conversation. Ctrl-C ends the answer; Ctrl-C or Ctrl-D at the prompt leaves.

From a pipe each line is a turn. The engine keeps what it has read, so only new text is computed.
"""

import argparse
import contextlib
import importlib
import sys
from typing import TYPE_CHECKING

from hybrid.cli.loading import load_engine, say_when_nearly_full
from hybrid.cli.output import error_block, note, say
from hybrid.cli.parser import add_model
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.prompts import add_sampling_flags, max_tokens, sampling
from hybrid.errors import ContextError, TokenizerError
from hybrid.tokenizer.chat import ChatTemplate
from hybrid.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

HELP = "/clear forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C ends an answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("-sys", "--system-prompt", metavar="TEXT", help="said before all else")
    add_sampling_flags(parser)
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    engine = load_engine(args)
    if engine.tokenizer is None:
        raise TokenizerError(
            f"{engine.prepared.file.path.name} carries no vocabulary",
            remedy="hybrid run --prompt-ids 1,2,3 works on token ids",
        )
    chat = Conversation(engine, engine.tokenizer, args)
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):  # line editing and history, where Python has them
            importlib.import_module("readline")
        say(HELP)
    while (line := _next_line(interactive)) is not None and line.strip() != "/exit":
        if line.strip() == "/clear":
            chat.clear()
        elif line.strip():
            chat.turn(line, interactive)
    return 0


class Conversation:
    """The messages so far, and how answers are drawn."""

    def __init__(self, engine: "Engine", tokenizer: Tokenizer, args: argparse.Namespace) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._args = args
        self._template = ChatTemplate.from_gguf(engine.prepared.file, tokenizer)
        self.clear()

    def clear(self) -> None:
        system = self._args.system_prompt
        self._messages = [{"role": "system", "content": str(system)}] if system else []

    def turn(self, text: str, interactive: bool) -> None:
        """Say `text`, print the answer. A turn that does not fit is taken back, never cut.

        Raises ContextError for such a turn when nobody is there to react.
        """
        self._messages.append({"role": "user", "content": text})
        prompt = self._template.render(self._messages)
        ids = self._tokenizer.encode(prompt, add_special=False, parse_special=True)
        try:
            self._messages.append({"role": "assistant", "content": self._answer(ids)})
        except ContextError as error:
            self._messages.pop()
            if not interactive:
                raise
            error_block(error)

    def _answer(self, ids: list[int]) -> str:
        engine, args, texts = self._engine, self._args, list[str]()
        tokens = engine.generate(
            ids, max_tokens=max_tokens(args), ignore_stop=args.ignore_eos, **sampling(args)
        )
        try:
            for token in tokens:
                texts.append(token.text)
                print(token.text, end="", flush=True)
        except KeyboardInterrupt:
            note("answer ended")
        print(flush=True)
        say_when_nearly_full(len(ids) + len(texts), engine.context_tokens)
        return "".join(texts)


def _next_line(interactive: bool) -> str | None:
    """One line from the user, None at the end."""
    try:
        if interactive:
            return input("> ")
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    except (EOFError, KeyboardInterrupt):
        say("")
        return None
