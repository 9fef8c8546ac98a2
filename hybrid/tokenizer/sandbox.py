"""Jinja2 within bounds: a hostile template must neither hang nor fill the memory.

Jinja's own immutable sandbox keeps a template away from Python. On top of it, every turn of a
loop, every call and every filter looks at the clock, and every value that can grow (sums,
products, formats, joined and captured text) is measured. Not bounded: one single step over values
that are themselves within the bounds.

Must not know: tokens, chat formats.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from hybrid.errors import TokenizerError

LONGEST_TEXT = 1 << 24  # characters; a million tokens are about five million
_LARGEST_INTEGER_BITS = 1 << 16
_WIDE_FIELD = re.compile(r"[%{](?:\([^)]*\))?[^\s%{}]*?(\d{8,})")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")
_REMEDY = "use a chat template that is made for this model"


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The environment of one chat template; `seconds` is the time one rendering may take."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, seconds: float) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self.filters["format"] = self._format
        self.filters = {name: self._bounded(function) for name, function in self.filters.items()}
        self.filters["tojson"] = self._json
        self.filters["counted items"] = self._counted
        self.filters["joined text"] = self._joined
        self.filters["measured text"] = self._measured

    def render(self, text: str, variables: dict[str, Any]) -> str:
        """The rendered text; raises what the template raises, TokenizerError beyond the bounds."""
        self._deadline = time.monotonic() + self._seconds
        tree = _Bounds().visit(self.parse(text))
        tree.set_environment(self)
        pieces, length = [], 0
        for piece in self.from_string(tree).generate(variables):
            length += len(piece)
            self._refuse_beyond(length)
            pieces.append(piece)
        return "".join(pieces)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Every call of a template comes through here."""
        __self._tick()
        __self._refuse_large_numbers((*args, *kwargs.values()))
        function = getattr(__obj, "__wrapped__", __obj)
        text = getattr(function, "__self__", None)
        if isinstance(text, str) and function.__name__ in ("format", "format_map"):
            __self._refuse_wide_fields(text)
        return __self._measured(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic that can make much out of little."""
        self._tick()
        if operator == "%" and isinstance(left, str):
            return self._format(left, *(right if isinstance(right, tuple) else (right,)))
        if operator == "**":
            bits = getattr(left, "bit_length", int)() * right if isinstance(right, int) else 0
            self._refuse_beyond(bits, _LARGEST_INTEGER_BITS)
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if hasattr(items, "__len__") and isinstance(times, int):
                    self._refuse_beyond(len(items) * times)
        return self._measured(super().call_binop(context, operator, left, right))

    def _tick(self) -> None:
        if time.monotonic() > self._deadline:
            raise TokenizerError(
                "the chat template does not come to an end",
                f"stopped after {self._seconds:g} seconds",
                remedy=_REMEDY,
            )

    def _refuse_beyond(self, size: int, limit: int = LONGEST_TEXT) -> None:
        if size > limit:
            raise TokenizerError(
                "the chat template makes too large a text",
                f"a value of size {size}, the limit is {limit}",
                remedy=[_REMEDY, "shorten the conversation"],
            )

    def _measured(self, value: Any) -> Any:
        if isinstance(value, str | list | tuple | dict):
            self._refuse_beyond(len(value))
        elif isinstance(value, int):
            self._refuse_beyond(value.bit_length(), _LARGEST_INTEGER_BITS)
        return value

    def _refuse_large_numbers(self, arguments: Iterable[Any]) -> None:
        """`"".center(10**12)`: one large number is enough."""
        for argument in arguments:
            if isinstance(argument, int):
                self._refuse_beyond(abs(argument))

    def _refuse_wide_fields(self, text: str) -> None:
        """`"%99999999d"`: so is one wide field; `"{:{width}}"` may hide one anywhere."""
        for digits in _WIDE_FIELD.findall(text):
            self._refuse_beyond(int(digits[:20]))
        if _NESTED_FIELD.search(text):
            raise SecurityError("a format field inside a format field")

    def _bounded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self._tick()
            self._refuse_large_numbers((*args, *kwargs.values()))
            return self._measured(function(*args, **kwargs))

        return bounded

    def _format(self, text: str, *args: Any, **kwargs: Any) -> str:
        self._refuse_wide_fields(text)
        self._refuse_large_numbers(args if "*" in text else ())
        mapping = args[0] if len(args) == 1 and isinstance(args[0], dict) else kwargs
        formatted: str = self._measured(str(text) % (mapping or args))
        return formatted

    def _json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON as models were trained with: letters as they are, nothing escaped for HTML."""
        self._refuse_large_numbers((indent or 0,))
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        return self._joined(encoder.iterencode(value))

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._tick()
            yield item

    def _joined(self, parts: Iterable[Any]) -> str:
        texts, length = [], 0
        for part in self._counted(parts):
            text = str(part)
            length += len(text)
            self._refuse_beyond(length)
            texts.append(text)
        return "".join(texts)


class _Bounds(NodeTransformer):
    """Sends loops, `~` and captured blocks through the sandbox's own filters.

    Their names hold a blank, so that no template can name them.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "counted items", node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "joined text", node)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.filter = _filtered(node.filter, "measured text", node)
        return node


def _filtered(value: nodes.Node | None, name: str, origin: nodes.Node) -> nodes.Filter:
    return nodes.Filter(
        cast("nodes.Expr | None", value), name, [], [], None, None, lineno=origin.lineno
    )
