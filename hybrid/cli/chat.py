"""`hybrid chat`: a conversation. Ctrl-C ends the answer; Ctrl-C or Ctrl-D at the prompt leaves.

From a pipe each line is a turn, but for the commands below. The engine keeps what it has read, so
only new text is computed. -n bounds an answer: one for which the context has less room goes on to
the context's end.
"""

import argparse
import contextlib
import importlib
import re
import sys
from typing import TYPE_CHECKING

from hybrid.cli.live_flags import LiveView, add_live_flags, live_view
from hybrid.cli.loading import load_engine, say_context_full, say_when_nearly_full
from hybrid.cli.output import error_block, note, say
from hybrid.cli.parser import add_model
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.prompts import add_sampling_flags, max_tokens, sampling
from hybrid.cli.run import timing_line
from hybrid.errors import ContextError
from hybrid.runtime.prepare import Prepared
from hybrid.runtime.prompt import checked, need_tokenizer
from hybrid.tokenizer.chat import ChatTemplate
from hybrid.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

HELP = (
    "/clear forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C ends an answer, /help says so"
)
LEAVING = ("/exit", "/quit", "/bye")
COMMAND = re.compile(r"/[\w-]+(\s|$)")  # "/regen", "/set system x", not "/etc/hosts is what?"
FULL = "/clear forgets the conversation, -c N reserves more"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("-sys", "--system-prompt", metavar="TEXT", help="said before all else")
    add_sampling_flags(parser)
    add_live_flags(parser)
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    with live_view(args, "chat") as live:
        return _talk(args, live)


def _talk(args: argparse.Namespace, live: LiveView) -> int:
    def before(prepared: Prepared, tokenizer: Tokenizer | None) -> None:
        Conversation(prepared, tokenizer, args).check()

    engine = load_engine(args, before, live)
    chat = Conversation(engine.prepared, engine.tokenizer, args)
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):  # line editing and history, where Python has them
            importlib.import_module("readline")
        say(HELP)
    while (line := _next_line(interactive)) is not None and line.strip() not in LEAVING:
        if line.strip() == "/clear":
            chat.clear()
        elif line.strip() in ("/help", "/?"):
            say(HELP)
        elif interactive and (found := COMMAND.match(line)):
            note(f"there is no {found[0].strip()}, and the model was not asked: {HELP}")
            note("a blank before it asks the model")
        elif line.strip():
            with live.screen():
                chat.turn(engine, line, interactive)
    if engine.stats.decode_tokens:
        say(timing_line(engine.stats))
    return 0


class Conversation:
    """The messages so far, and how answers are drawn."""

    def __init__(
        self, prepared: Prepared, tokenizer: Tokenizer | None, args: argparse.Namespace
    ) -> None:
        remedy = "hybrid run --prompt-ids 1,2,3 works on token ids"
        self._tokenizer = need_tokenizer(prepared, tokenizer, remedy)
        self._template = ChatTemplate.from_gguf(prepared.file, self._tokenizer)
        self._prepared = prepared
        self._args = args
        self.clear()

    def check(self) -> None:
        """Find what would spoil every turn: sampling, template, a system prompt without end.

        Raises UsageError, TokenizerError or ContextError.
        """
        sampling(self._args)
        checked(self._prepared, self._ids([*self._messages, {"role": "user", "content": "a"}]), 1)

    def clear(self) -> None:
        system = self._args.system_prompt
        self._messages = [{"role": "system", "content": str(system)}] if system else []

    def turn(self, engine: "Engine", text: str, interactive: bool) -> None:
        """Say `text`, print the answer. A turn that does not fit is taken back; an answer that the
        context's end cuts is kept, and said to be cut.

        Raises ContextError for a turn that does not fit when nobody is there to react.
        """
        self._messages.append({"role": "user", "content": text})
        try:
            answer = self._answer(engine, self._ids(self._messages))
            self._messages.append({"role": "assistant", "content": answer})
        except ContextError as error:
            self._messages.pop()
            if not interactive:
                raise
            error_block(error)

    def _ids(self, messages: list[dict[str, str]]) -> list[int]:
        prompt = self._template.render(messages)
        return self._tokenizer.encode(prompt, add_special=False, parse_special=True)

    def _answer(self, engine: "Engine", ids: list[int]) -> str:
        args, texts, finish = self._args, list[str](), None
        bound, room = max_tokens(args), engine.context_tokens - len(ids)
        tokens = engine.generate(
            ids,
            max_tokens=None if bound is None or bound > room else bound,
            ignore_stop=args.ignore_eos,
            sampling=sampling(args),
        )
        try:
            for token in tokens:
                texts.append(token.text)
                finish = token.finish
                print(token.text, end="", flush=True)
            print(flush=True)
        except KeyboardInterrupt:
            print(flush=True)
            note("answer ended")
        if finish == "context":
            say_context_full(engine.context_tokens, FULL)
        else:
            say_when_nearly_full(len(ids) + len(texts), engine.context_tokens, FULL)
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
