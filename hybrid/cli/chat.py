"""`hybrid chat`: a conversation. Ctrl-C ends an answer; at the prompt it drops the line, and a
second one at the next prompt, with nothing in between, leaves. Ctrl-D leaves at once.

From a pipe each line is a turn, but for the commands below. The engine keeps what it has read, so
only new text is computed. -n bounds an answer: one for which the context has less room goes on to
the context's end.
"""

import argparse
import contextlib
import importlib
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from hybrid.cli.live_flags import LiveView, add_live_flags, live_view
from hybrid.cli.loading import load_engine, say_context_full, say_when_nearly_full
from hybrid.cli.output import error_block, note, say
from hybrid.cli.parser import add_model
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.prompts import add_sampling_flags, max_tokens, sampling
from hybrid.cli.run import timing_line
from hybrid.errors import ContextError
from hybrid.runtime.options import MAX_SEED, SamplingOptions
from hybrid.runtime.prepare import Prepared
from hybrid.runtime.prompt import checked, need_tokenizer
from hybrid.tokenizer.chat import ChatTemplate
from hybrid.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

BANNER = "Ctrl-C ends an answer, Ctrl-D leaves, /help lists the commands"
HELP = """\
/help    prints this list, as /? does
/clear   forgets the conversation
/regen   takes the last answer back and answers anew
/exit    leaves, as /quit and /bye do
Ctrl-C   ends an answer; at the prompt it drops the line, a second one leaves
Ctrl-D   leaves"""
AGAIN = "Ctrl-C again, Ctrl-D or /exit leaves"
CLEAR, REGEN, HELPING, LEAVING = "/clear", "/regen", ("/help", "/?"), ("/exit", "/quit", "/bye")
KNOWN = (CLEAR, REGEN, *HELPING, *LEAVING)
COMMAND = re.compile(r"/[\w-]*(?=\s|$)")  # "/undo", "/set system x", "/", not "/etc/hosts is what?"
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
        say(BANNER)
    interrupted = False
    while True:
        try:
            line = _next_line(interactive)
            interrupted = False
            if line is None or line.strip().lower() in LEAVING:
                break
            _obey(line, engine, chat, live, interactive=interactive)
        except KeyboardInterrupt:  # at the prompt, or between an answer's end and it
            say("")
            if not interactive or (interrupted and not _is_typing()):
                break
            interrupted = True
            say(AGAIN)
    if engine.stats.decode_tokens:
        say(timing_line(engine.stats))
    return 0


def _is_typing() -> bool:
    """Whether a line was begun, as far as line editing can tell."""
    editing = sys.modules.get("readline")
    return editing is not None and bool(editing.get_line_buffer().strip())


def _next_line(interactive: bool) -> str | None:
    """One line from the user, None at the end."""
    if not interactive:
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    try:
        return input("> ")
    except EOFError:
        say("")
        return None


def _obey(
    line: str, engine: "Engine", chat: "Conversation", live: LiveView, *, interactive: bool
) -> None:
    """Do what a line says that does not leave: a command, else a turn."""
    command = line.strip().lower()
    if command == CLEAR:
        chat.clear()
        note("the conversation is forgotten")
    elif command in HELPING:
        say(HELP)
    elif command == REGEN and not chat.has_answer:
        note("there is no answer to take back")
    elif command == REGEN:
        with live.screen():
            chat.answer_anew(engine, interactive)
    elif interactive and (found := COMMAND.match(line)):
        name = found[0]
        known = name.lower() in KNOWN
        wrong = f"{name} takes nothing after it" if known else f"there is no {name}"
        note(f"{wrong}, and the model was not asked: /help lists the commands")
        note("a blank before it asks the model")
    elif command:
        with live.screen():
            chat.turn(engine, line, interactive)


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

    @property
    def has_answer(self) -> bool:
        return bool(self._messages) and self._messages[-1]["role"] == "assistant"

    def check(self) -> None:
        """Find what would spoil every turn: sampling, template, a system prompt without end.

        Raises UsageError, TokenizerError or ContextError.
        """
        sampling(self._args)
        checked(self._prepared, self._ids([*self._messages, {"role": "user", "content": "a"}]), 1)

    def clear(self) -> None:
        system = self._args.system_prompt
        self._messages = [{"role": "system", "content": str(system)}] if system else []
        self._taken_back = 0

    def turn(self, engine: "Engine", text: str, interactive: bool) -> None:
        """Say `text`, print the answer. A turn that does not fit is taken back; an answer that the
        context's end cuts is kept, and said to be cut.

        Raises ContextError for a turn that does not fit when nobody is there to react.
        """
        before, self._taken_back = self._taken_back, 0
        asked = [*self._messages, {"role": "user", "content": text}]
        if not self._reply(engine, asked, interactive):
            self._taken_back = before

    def answer_anew(self, engine: "Engine", interactive: bool) -> None:
        """Take the last answer back and print another one."""
        self._taken_back += 1
        if self._args.temp == 0:
            note("the same answer comes again: --temp 0 leaves no choice")
        self._reply(engine, self._messages[:-1], interactive)

    def _reply(self, engine: "Engine", asked: list[dict[str, str]], interactive: bool) -> bool:
        """Whether there is an answer."""
        try:
            answer = self._answer(engine, self._ids(asked))
        except ContextError as error:
            if not interactive:
                raise
            error_block(error)
            if any(message["role"] == "assistant" for message in asked):
                note("the question is taken back; /clear forgets what was said before it")
            return False
        self._messages = [*asked, {"role": "assistant", "content": answer}]
        return True

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
            sampling=self._sampling(),
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

    def _sampling(self) -> SamplingOptions:
        """A --seed of the user's counts on with each answer taken back: the same one would come."""
        drawn, given = sampling(self._args), self._args.seed
        if given < 0:
            return drawn
        return replace(drawn, seed=(given + self._taken_back) % (MAX_SEED + 1))
