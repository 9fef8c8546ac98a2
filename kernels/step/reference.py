"""The meaning of both ends in plain torch."""

from torch import Tensor

from kernels.step.records import ArgmaxScratch, Greatest, StepInput


def begin_step(source: StepInput, target: StepInput) -> None:
    """See `kernels.step.begin_step`."""
    for _, given, wanted in source.pairs(target):
        wanted.copy_(given, non_blocking=True)


def argmax(logits: Tensor, found: Greatest, scratch: ArgmaxScratch, host: Greatest | None) -> None:
    """See `kernels.step.argmax`."""
    unknown = logits.isnan()
    greatest = logits.amax(-1, keepdim=True)  # NaN where there is one
    index = ((logits == greatest) | unknown).int().argmax(-1)  # argmax takes the first of equals
    value = logits.gather(-1, index[:, None])[:, 0]
    for place in (found, host) if host else (found,):
        place.index.copy_(index)
        place.value.copy_(value)
