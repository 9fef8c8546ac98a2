"""Inventories and machines for the tests: a tiny model, and one as large as DeepSeek-V3."""

from math import prod

from placement.inventory import ModelInventory, ModelShape, Role, TensorInfo
from placement.machines.machine import CPU, Device, DeviceKind, Machine
from tools.model_shapes import V3

GIB = 1 << 30
MIB = 1 << 20
# weights and bytes per block
BLOCKS = {"F32": (1, 4), "Q8_0": (32, 34), "Q4_K": (256, 144), "Q6_K": (256, 210)}

TINY = ModelShape(
    layers=4,
    dense_layers=1,
    embedding_length=64,
    feed_forward_length=128,
    head_count=4,
    key_length=24,
    value_length=16,
    latent_length=32,
    rope_length=8,
    vocabulary=512,
    expert_count=8,
    expert_used_count=2,
    expert_feed_forward_length=32,
    shared_feed_forward_length=32,
    trained_context_tokens=2048,
)


def tensor(
    name: str, shape: tuple[int, ...], role: Role, fmt: str = "F32", experts: int = 0
) -> TensorInfo:
    weights, nbytes = BLOCKS[fmt]
    layer = int(name.split(".")[1]) if name.startswith("blk.") else None
    return TensorInfo(name, shape, fmt, prod(shape) // weights * nbytes, role, layer, experts)


def model(
    shape: ModelShape, name: str, *, weights: str, tied: bool = False, mtp: bool = False
) -> ModelInventory:
    """A deepseek2 inventory with q_lora left out, every matrix in one format, norms and router in
    F32.
    """
    width, vocabulary = shape.embedding_length, shape.vocabulary
    tensors = [
        tensor("token_embd.weight", (vocabulary, width), Role.EMBEDDING, weights),
        tensor("output_norm.weight", (width,), Role.NORM),
    ]
    if not tied:
        tensors.append(tensor("output.weight", (vocabulary, width), Role.HEAD, weights))
    for layer in range(shape.layers):
        tensors += _attention(shape, f"blk.{layer}", weights)
        tensors += _feed_forward(shape, f"blk.{layer}", weights, layer < shape.dense_layers)
    if mtp:
        extra = f"blk.{shape.layers}.nextn.eh_proj.weight"
        tensors.append(tensor(extra, (width, 2 * width), Role.MTP, weights))
    return ModelInventory(name, "deepseek2", shape, tuple(tensors))


def tiny(**options: bool) -> ModelInventory:
    return model(TINY, "tiny", weights="Q8_0", **options)


def deepseek_v3() -> ModelInventory:
    return model(V3, "DeepSeek-V3", weights="Q4_K", mtp=True)


def machine(
    *gpu_bytes: int, ram: int = 64 * GIB, kind: DeviceKind = DeviceKind.SIMULATED_GPU
) -> Machine:
    gpus = (Device(f"CUDA{i}", kind, size, size) for i, size in enumerate(gpu_bytes))
    return Machine((Device(CPU, DeviceKind.CPU, ram, ram, process_bytes=0), *gpus))


def _attention(shape: ModelShape, block: str, fmt: str) -> list[TensorInfo]:
    width, heads, latent = shape.embedding_length, shape.head_count, shape.latent_length
    nope = shape.key_length - shape.rope_length
    matrices = {
        "attn_q": (heads * shape.key_length, width),
        "attn_kv_a_mqa": (latent + shape.rope_length, width),
        "attn_kv_b": (heads * (nope + shape.value_length), latent),
        "attn_output": (width, heads * shape.value_length),
    }
    norm = tensor(f"{block}.attn_norm.weight", (width,), Role.NORM)
    named = (tensor(f"{block}.{n}.weight", s, Role.ATTENTION, fmt) for n, s in matrices.items())
    return [norm, *named, tensor(f"{block}.ffn_norm.weight", (width,), Role.NORM)]


def _feed_forward(shape: ModelShape, block: str, fmt: str, dense: bool) -> list[TensorInfo]:
    width = shape.embedding_length
    if dense:
        return _trio(f"{block}.ffn", "", (shape.feed_forward_length, width), Role.DENSE_FFN, fmt)
    count, inner = shape.expert_count, shape.expert_feed_forward_length
    shared = shape.shared_feed_forward_length
    return [
        tensor(f"{block}.ffn_gate_inp.weight", (count, width), Role.ROUTER),
        *_trio(f"{block}.ffn", "_exps", (inner, width), Role.ROUTED_EXPERT, fmt, count),
        *_trio(f"{block}.ffn", "_shexp", (shared, width), Role.SHARED_EXPERT, fmt),
    ]


def _trio(
    start: str, end: str, size: tuple[int, int], role: Role, fmt: str, experts: int = 0
) -> list[TensorInfo]:
    lead = (experts,) if experts else ()
    flipped = (size[1], size[0])
    sizes = {"gate": size, "up": size, "down": flipped}
    return [
        tensor(f"{start}_{n}{end}.weight", (*lead, *s), role, fmt, experts)
        for n, s in sizes.items()
    ]
