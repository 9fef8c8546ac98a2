"""The CPU's side of a decode step: one native call that answers layer after layer.

    GPU    ... router, publish | shared expert | receive ...  router, publish | ...
    CPU        wait ........... | experts 0    | answer  wait ............... | experts 1 ...

The calling thread waits, spinning, and is worker 0 of the pool; the other workers spin meanwhile,
for as long as `wait.h` says. Every step ends: by its last answer, or by an error that has released
all GPUs from their waits.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.errors import GpuSilent, KernelInputError
from kernels.mailbox import Mailbox
from kernels.native import pool, records, tiers
from kernels.native.library import library

_DONE, _PAUSED, _SILENT, _GAVE_UP = 0, -1, -2, -3  # HybridServeResult

Part = tuple[BlockTensor, BlockTensor, BlockTensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's routed experts that are held here.

    mailbox        of the GPU that has the layer's router
    parts          gate, up, down [experts, rows, columns], one triple a NUMA node
    first_expert   model-wide number of the first one; others add nothing
    """

    mailbox: Mailbox
    parts: Sequence[Part]
    first_expert: int = 0


class Service:
    """Answers the crossings of a model's layers, in the order in which its GPUs post them.

    layers    that cross in every step
    exact     float32 activations, instead of activations rounded to eight bits
    limit_s   silence of a GPU within a step after which it counts as lost. Time in which the whole
              process was stopped does not count.

    Registered once: `serve` allocates nothing.
    """

    def __init__(
        self, layers: Sequence[Layer], *, exact: bool = False, limit_s: float = 10
    ) -> None:
        if not layers or not limit_s > 0:
            raise KernelInputError("a service has layers, and a limit above zero")
        self._layers = tuple(layers)  # what the records point to
        for layer in layers:
            _check(layer)
        self.mailboxes = tuple(dict.fromkeys(layer.mailbox for layer in layers))
        self._experts = [
            records.experts(layer.parts, layer.first_expert, layer.mailbox.used) for layer in layers
        ]
        self._records = (records.ServedLayer * len(layers))(
            *(
                records.ServedLayer(ctypes.addressof(experts), _served(layer.mailbox), 0, 0)
                for experts, layer in zip(self._experts, layers, strict=True)
            )
        )
        self._needed: dict[tuple[int, int], int] = {}
        self._pointers = (ctypes.c_void_p * len(self.mailboxes))(*map(_served, self.mailboxes))
        self._step = records.ServedStep(
            layers=ctypes.addressof(self._records),
            mailboxes=ctypes.addressof(self._pointers),
            count=len(layers),
            mailbox_count=len(self.mailboxes),
            tier=tiers.current(),
            precision=records.EXACT if exact else records.ROUNDED,
            limit_s=limit_s,
        )

    def needs(self, tokens: int, threads: int) -> int:
        """Bytes of workspace for steps of 1 to `tokens` tokens, by so many workers, 0: all."""
        step, key = self._step, (tokens, threads or pool.threads())
        if key not in self._needed:
            self._needed[key] = library().hybrid_serve_bytes(
                step.layers, step.count, step.tier, step.precision, *key
            )
        return self._needed[key]

    def serve(self, tokens: int, workspace: Tensor, threads: int = 0) -> None:
        """Answers one step's crossings; returns when the last one is answered.

        tokens      of the step, as many as every mailbox has rows at most
        workspace   uint8 on the CPU, at least `needs` bytes, on a multiple of 64
        threads     workers of the pool, 0: all

        Python's signal handlers run at least five times a second. Whatever is raised here has
        abandoned the step on all GPUs; once their streams have ended, `reset` makes the next one
        possible.
        Raises WorkerFailed when a worker fails, GpuSilent when a GPU posts nothing or has given up,
        KernelInputError when tokens or workspace do not fit or a failed step was not reset.
        """
        self._check_step(tokens, workspace, threads)
        step = self._step
        step.tokens, step.threads, step.next, step.silent_s = tokens, threads, 0, 0
        step.workspace, step.workspace_bytes = workspace.data_ptr(), workspace.numel()
        for record in self._records:
            record.waited_s = record.computed_s = 0
        try:
            while (code := library().hybrid_serve(ctypes.byref(step))) == _PAUSED:
                pass
        except BaseException:  # of a signal handler
            self.abandon()
            raise
        if code > 0:
            pool.check(code)
        if code != _DONE:
            raise GpuSilent(self._silence(code))

    def check_received(self) -> None:
        """After a step: whether the GPUs, whose streams have ended, waited for every answer.

        Raises GpuSilent when one did not: the step is lost, and `reset` comes before the next one.
        """
        for mailbox in self.mailboxes:
            if mailbox.failed:
                raise GpuSilent(self._given_up(mailbox, "an answer"))

    def abandon(self) -> None:
        """Ends every wait of the GPUs at once; the step's results are garbage."""
        library().hybrid_abandon(ctypes.byref(self._step))

    def reset(self) -> None:
        """All mailboxes as new. The GPUs must not be inside a step."""
        for mailbox in self.mailboxes:
            mailbox.reset()

    @property
    def crossings(self) -> int:
        """Of a step."""
        return len(self._layers)

    @property
    def waited_s(self) -> list[float]:
        """Of the last step, layer by layer: seconds until the GPU had posted."""
        return [record.waited_s for record in self._records]

    @property
    def computed_s(self) -> list[float]:
        """Of the last step, layer by layer: seconds from there to the answer."""
        return [record.computed_s for record in self._records]

    def _check_step(self, tokens: int, workspace: Tensor, threads: int) -> None:
        if not 0 < tokens <= min(mailbox.tokens for mailbox in self.mailboxes):
            raise KernelInputError(f"a step of {tokens} tokens does not fit the mailboxes")
        needed = self.needs(tokens, threads)
        if workspace.numel() < needed or workspace.device.type != "cpu":
            raise KernelInputError(f"the step needs {needed} bytes, not {workspace.numel()}")
        failed = [mailbox.failed for mailbox in self.mailboxes if mailbox.failed]
        if failed:
            raise KernelInputError(f"{failed[0]}: reset the mailboxes first")

    def _silence(self, code: int) -> str:
        step = self._step
        layer = self._layers[step.next]
        where = f"crossing {step.next + 1} of {step.count}"
        if code == _GAVE_UP:
            return self._given_up(layer.mailbox, where)
        return (
            f"{self._which(layer.mailbox)} did not come to {where} within {step.limit_s:g} s: its"
            " kernels failed, or other work holds it; the step is lost. Look at nvidia-smi and"
            " dmesg, end other programs on the GPU, and try again"
        )

    def _given_up(self, mailbox: Mailbox, where: str) -> str:
        limit_s = mailbox.record.limit_ns * 1e-9
        return (
            f"{self._which(mailbox)} waited {limit_s:g} s for the CPU before {where} and went on:"
            " the process was stopped meanwhile, or the CPU is overloaded; the step is lost, try"
            " fewer threads (-t)"
        )

    def _which(self, mailbox: Mailbox) -> str:
        return f"GPU {self.mailboxes.index(mailbox)} ({mailbox.state.device})"


def _served(mailbox: Mailbox) -> int:
    return ctypes.addressof(mailbox.served)


def _check(layer: Layer) -> None:
    if not 0 < len(layer.parts) <= records.MAX_PARTS:
        raise KernelInputError(f"experts of {len(layer.parts)} parts")
    for gate, up, down in layer.parts:
        experts, feed_forward, width = gate.shape
        if up.shape != gate.shape or down.shape != (experts, width, feed_forward):
            raise KernelInputError(f"{gate.shape}, {up.shape}, {down.shape} do not fit")
        if width != layer.mailbox.width or gate.device.type != "cpu":
            raise KernelInputError(
                f"experts {gate.shape} on {gate.device}, a mailbox of width {layer.mailbox.width}"
            )
