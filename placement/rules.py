"""User rules: "PATTERN=DEVICE" texts, first match wins, regex search semantics, expert ranges."""

import re
from dataclasses import dataclass, field

from placement.inventory import Role, TensorInfo

OWN_GPU = "GPU"  # a rule's device: the GPU on which the tensor's own layer lives


@dataclass(frozen=True, slots=True)
class Rule:
    """One placement rule.

    pattern   regular expression searched in the tensor's name
    device    "CPU", "CUDA0", ... or OWN_GPU
    source    the text the user typed, for reports and errors
    experts   (first, last) of an expert range, None for whole tensors
    role      when set, only tensors of this role match (--cpu-moe works from roles)
    """

    pattern: str
    device: str
    source: str
    experts: tuple[int, int] | None = None
    role: Role | None = None
    _regex: re.Pattern[str] | None = field(default=None, repr=False, compare=False)

    def matches(self, tensor: TensorInfo) -> bool:
        raise AssertionError("written by the rules' author")
