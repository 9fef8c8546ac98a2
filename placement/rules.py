"""User rules: "PATTERN=DEVICE" texts, first match wins, regex search semantics, expert ranges.

The grammar is a superset of llama.cpp's -ot: what is legal there means the same here, but for a
pattern that ends in "#N" or "#N-M", which is a range of experts ("exps#0-63=CUDA0"); no tensor's
name holds a "#". Added, where llama.cpp has an error: a comma inside the pattern ("{1,3}"), "="
inside the pattern ("(?=...)"), and the device GPU.

    texts  -- split on commas -->  "PATTERN#RANGE=DEVICE"  -- split at the last "=" -->  Rule
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from placement.errors import RuleError
from placement.inventory import Role, TensorInfo
from placement.machines.machine import CPU, canonical_name, device_advice
from placement.patterns import SlowSearch, check_pattern, found, quoted

OWN_GPU = "GPU"  # a rule's device: the GPU on which the tensor's own layer lives

N_CPU_MOE = "--n-cpu-moe "
MAX_RANGE_DIGITS = 6

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One placement rule.

    pattern   regular expression searched in the tensor's name
    device    "CPU", "CUDA0", ... or OWN_GPU
    source    the text the user typed, for reports and errors
    experts   (first, last) of an expert range, None for whole tensors
    role      when set, only tensors of this role match (--cpu-moe works from roles)
    layers    (first, last) when set, only tensors of these blocks match
    """

    pattern: str
    device: str
    source: str
    experts: tuple[int, int] | None = None
    role: Role | None = None
    layers: tuple[int, int] | None = None

    def matches(self, tensor: TensorInfo) -> bool:
        """Whether the pattern is found anywhere in the name and role and layer are right.

        Raises RuleError when the search takes exponential time.
        """
        if self.role is not None and tensor.role is not self.role:
            return False
        if self.layers is not None and (
            tensor.layer is None or not self.layers[0] <= tensor.layer <= self.layers[1]
        ):
            return False
        try:
            return found(self.pattern, tensor.name)
        except SlowSearch:
            raise RuleError(
                f"the rule {quoted(self.source)} takes too long to search in {quoted(tensor.name)}",
                remedy="take out the repetition of a repeated group, as in (a+)+",
            ) from None

    @property
    def is_fallback(self) -> bool:
        """The second half of --n-cpu-moe: a GPU for experts that no rule of the user takes."""
        return self.source.startswith(N_CPU_MOE) and self.device == OWN_GPU


def parse_rules(
    texts: Sequence[str], device_names: Sequence[str], *, first_number: int = 1
) -> tuple[Rule, ...]:
    """Rules of repeated -ot flags, in order.

    texts          each one flag's value: "PATTERN=DEVICE[,PATTERN=DEVICE...]"
    device_names   `Machine.device_names`
    first_number   number of the first rule in error texts, for callers that mix flags
    Raises RuleError naming the rule's number and text.
    """
    rules: list[Rule] = []
    for text in texts:
        for piece in _split(text, device_names):
            rules.append(_parse_one(piece, device_names, first_number + len(rules)))
    return tuple(rules)


def cpu_moe_rule() -> Rule:
    """--cpu-moe: every routed expert on the CPU, known by role and not by name."""
    return Rule("", CPU, "--cpu-moe", role=Role.ROUTED_EXPERT)


def n_cpu_moe_rules(n: int, layers: int, has_gpu: bool) -> tuple[Rule, ...]:
    """--n-cpu-moe n: routed experts of the first n blocks (dense ones counted) on the CPU; a
    fallback for the others, their layer's GPU, whose place is behind all rules (`fallbacks_last`).

    Raises RuleError for a negative n. Source of the meaning: llama.cpp, common/arg.cpp.
    """
    if n < 0:
        raise RuleError(
            f"--n-cpu-moe {n} is negative",
            remedy=f"--n-cpu-moe takes 0 to {layers}, the number of blocks of this model",
        )
    source, role = f"{N_CPU_MOE}{n}", Role.ROUTED_EXPERT
    rules = [Rule("", CPU, source, role=role, layers=(0, min(n, layers) - 1))] if n else []
    if has_gpu and n < layers:
        rules.append(Rule("", OWN_GPU, source, role=role, layers=(n, layers - 1)))
    return tuple(rules)


def fallbacks_last(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules in their order, but for fallbacks: in llama.cpp --n-cpu-moe n says nothing of the
    other blocks' experts, so that every rule, also a later one, comes before it.
    """
    return tuple(sorted(rules, key=lambda rule: rule.is_fallback))


def _split(text: str, device_names: Sequence[str]) -> Iterator[str]:
    """Rule texts of one flag value. A piece without "=", or one that stops inside a bracket, goes
    on in the next.
    """
    pending = ""
    for piece in text.split(","):
        if not pending and not piece.strip():
            continue
        pending = f"{pending},{piece}" if pending else piece
        if "=" in piece and (_cut(pending, device_names) or not _inside_bracket(pending)):
            yield pending.strip()
            pending = ""
    if pending or not text.strip(" ,"):
        yield pending.strip()


def _parse_one(text: str, device_names: Sequence[str], number: int) -> Rule:
    subject = f"rule {number} ({quoted(text)})"
    example = r"a rule is PATTERN=DEVICE: 'exps=CPU' or 'blk\.(3|4)\..*_exps=CUDA0'"
    if "=" not in text:
        raise RuleError(f"{subject} names no device", remedy=example)
    cut = _cut(text, device_names)
    if cut is None:
        raise _unknown_device(text.rpartition("=")[2].strip(), device_names, subject)
    pattern, device = cut
    body, hash_sign, tail = pattern.rpartition("#")
    experts = None
    if hash_sign and (limits := _RANGE.fullmatch(tail.strip())):
        pattern, experts = body.strip(), _expert_range(limits, subject)
    if not pattern:
        raise RuleError(
            f"{subject} has an empty pattern", remedy=f"'.*={device}' matches all; {example}"
        )
    check_pattern(pattern, subject)
    return Rule(pattern, device, text, experts)


def _cut(text: str, device_names: Sequence[str]) -> tuple[str, str] | None:
    """(pattern, device name) at the last "=", None when no known device stands right of it.

    No device name holds "=", so the last "=" is the only place where a known device can begin.
    """
    pattern, _, right = text.rpartition("=")
    name = canonical_name(right)
    has_gpu = any(device != CPU for device in device_names)
    known = name in device_names or (name == OWN_GPU and has_gpu)
    return (pattern.strip(), name) if known else None


def _unknown_device(name: str, device_names: Sequence[str], subject: str) -> RuleError:
    if canonical_name(name) == "CUDA_HOST":
        return RuleError(
            f"{subject}: CUDA_Host is not a device of its own",
            "host memory is pinned where a GPU needs it, whichever rule put a tensor there",
            remedy="write =CPU",
        )
    names = list(device_names)
    if any(device != CPU for device in names):
        names.append(OWN_GPU)
    return RuleError(f"{subject}: unknown device {quoted(name)}", remedy=device_advice(name, names))


def _expert_range(limits: re.Match[str], subject: str) -> tuple[int, int]:
    if any(len(text or "") > MAX_RANGE_DIGITS for text in limits.groups()):
        raise RuleError(
            f"{subject}: {quoted(limits[0])} is not a range of experts",
            remedy="count from 0, both ends included: 'exps#0-63=CUDA0', or 'exps#5=CUDA0'",
        )
    first, last = int(limits[1]), int(limits[2] or limits[1])
    if last < first:
        raise RuleError(
            f"{subject}: the range ends at expert {last}, before it begins at {first}",
            remedy=f"write #{last}-{first}",
        )
    return first, last


def _inside_bracket(text: str) -> bool:
    bare = re.sub(r"\\.", "", text)
    return any(bare.count(a) > bare.count(b) for a, b in ("()", "[]", "{}"))
