"""Scratch and overheads of a GPU before anybody knows which blocks it will hold: what room is left
for them.
"""

from collections import Counter

from placement.claims import Claims
from placement.gpu_scratch import gpu_bytes
from placement.inventory import Role
from placement.machine import CPU
from placement.overheads import Held, gpu_overheads, readers_of
from placement.request import Request
from placement.rules import OWN_GPU
from placement.workload import Hosted


def scratch_of_a_home(request: Request, claims: Claims, *, with_head: bool) -> int:
    """Scratch of any GPU that holds blocks, context and workspaces with it; never below what the
    finished plan needs.
    """
    tied = request.inventory.has_tied_head
    widest, experts, head = 0, False, with_head
    expert_bytes: Counter[int] = Counter()
    for tensor in request.inventory.tensors:
        rules = [claim.rule for claim in claims.get(tensor.name, ())]
        devices = {request.rules[rule].device for rule in rules if rule is not None}
        on_gpu = bool(devices - {CPU})
        if tensor.role is Role.ROUTED_EXPERT:
            experts = experts or on_gpu
            counts = on_gpu
            if CPU in devices or None in rules:
                expert_bytes[tensor.layer or 0] += tensor.expert_bytes
        elif tensor.role is Role.HEAD or (tensor.role is Role.EMBEDDING and tied):
            counts = head = with_head or on_gpu
        else:
            counts = tensor.role.is_loaded and tensor.role is not Role.EMBEDDING
        widest = max(widest, tensor.matrix_values if counts else 0)
    shape = request.inventory.shape
    hosted = Hosted(
        layers=1,
        routed_experts=experts,
        head=head,
        embedding=True,
        matrix_values=widest,
        homes=1,
        away_experts=shape.expert_count if expert_bytes else 0,
        away_expert_bytes=max(expert_bytes.values(), default=0),
        plain=not _may_fall_back(request, claims),
    )
    scratch = gpu_bytes(shape, request.workload, hosted)
    return scratch + _most_overheads(request, hosted, scratch)


def _most_overheads(request: Request, hosted: Hosted, scratch_bytes: int) -> int:
    """Of the GPU that loses most to them; less scratch would leave more for buffers of loading, but
    not more in all.
    """
    readers = readers_of(request.machine)
    return max(
        (
            sum(
                nbytes
                for _, nbytes in gpu_overheads(
                    Held(gpu, 0, scratch_bytes, hosted), request.workload, readers
                )
            )
            for gpu in request.machine.gpus
        ),
        default=0,
    )


def _may_fall_back(request: Request, claims: Claims) -> bool:
    """Whether a GPU's block may be left to the reference (`reference_blocks.py`): homes are not
    known yet, so rather too often.
    """
    gpus = [gpu.name for gpu in request.machine.gpus]
    own = {OWN_GPU, *(gpus if len(gpus) == 1 else ())}
    cuts: dict[int, list[tuple[int, int, str]]] = {}
    for tensor in request.inventory.tensors:
        if tensor.layer is None or tensor.name not in claims:
            continue
        placed = [
            (c.first, c.last, CPU if c.rule is None else request.rules[c.rule].device)
            for c in claims[tensor.name]
        ]
        if tensor.role is not Role.ROUTED_EXPERT:
            if any(c.rule is not None for c in claims[tensor.name]) and placed[0][2] not in own:
                return True
            continue
        devices = {device for _, _, device in placed}
        several = len(placed) > len(devices) or devices - own - {CPU}
        merged = "gate_up" in tensor.name and devices != {CPU}
        if several or merged or cuts.setdefault(tensor.layer, placed) != placed:
            return True
    return False
