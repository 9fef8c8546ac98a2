"""Tensor table to `placement.ModelInventory`: what each tensor is for, told by its name."""

import re

from hybrid.gguf.reader import GgufFile
from hybrid.gguf.table import GgufTensor
from placement.inventory import ModelInventory, ModelShape, Role, TensorInfo

_IN_BLOCK = re.compile(r"blk\.([0-9]{1,6})\.(.+)")
_OUTSIDE = {
    "token_embd.weight": Role.EMBEDDING,
    "output.weight": Role.HEAD,
    "output_norm.weight": Role.NORM,
}
# First match wins: attn_norm is a norm before it is attention, ffn_gate_exps routed before dense.
_INSIDE = tuple(
    (re.compile(rf"({stem})\.(weight|bias)"), role)
    for stem, role in (
        ("[a-z0-9_]+_norm", Role.NORM),
        ("attn_[a-z0-9_]+", Role.ATTENTION),
        ("ffn_gate_inp|exp_probs_b", Role.ROUTER),
        ("ffn_(gate|up|down|gate_up)_exps", Role.ROUTED_EXPERT),
        ("ffn_(gate|up|down)_shexp", Role.SHARED_EXPERT),
        ("ffn_(gate|up|down)", Role.DENSE_FFN),
    )
)
_DERIVED = ("attn_k_b.weight", "attn_v_b.weight")


def inventory(file: GgufFile, shape: ModelShape) -> ModelInventory:
    """Every tensor of the file in file order, with its role, layer and experts.

    Blocks from `shape.layers` on are next-token-prediction blocks. Where a block has both attn_kv_b
    and attn_k_b or attn_v_b (the layout of ik_llama.cpp), the latter are copies derived from it and
    are not loaded.
    """
    return ModelInventory(
        name=file.get_str("general.name", "") or file.paths[0].stem,
        architecture=file.architecture,
        shape=shape,
        tensors=tuple(_described(file, tensor, shape) for tensor in file.tensors.values()),
    )


def _described(file: GgufFile, tensor: GgufTensor, shape: ModelShape) -> TensorInfo:
    match = _IN_BLOCK.fullmatch(tensor.name)
    layer = int(match[1]) if match else None
    role = _OUTSIDE.get(tensor.name, Role.UNUSED)
    if match:
        role = Role.MTP if int(match[1]) >= shape.layers else _role_in_block(file, match)
    return TensorInfo(
        name=tensor.name,
        shape=tensor.shape,
        format=tensor.format.name,
        nbytes=tensor.nbytes,
        role=role,
        layer=layer,
        experts=tensor.shape[0] if role is Role.ROUTED_EXPERT else 0,
    )


def _role_in_block(file: GgufFile, match: re.Match[str]) -> Role:
    if match[2] in _DERIVED and f"blk.{match[1]}.attn_kv_b.weight" in file.tensors:
        return Role.UNUSED
    for pattern, role in _INSIDE:
        if pattern.fullmatch(match[2]):
            return role
    return Role.UNUSED
