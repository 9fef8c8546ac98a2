"""`ModelConfig`: what a file says about its model, checked, defaults filled in. No torch.

Where the trained model and llama.cpp compute differently, `conventions` decides:

    what                              "trained" (default)         "llama.cpp"
    group of softmax-gated experts    worth its best expert       worth the sum of its two best
    YaRN's ramp ends (betas)          as the file says            32 and 1
    YaRN without a log multiplier     amplitude 1 + 0.1 ln s      its square in the scale as well
"""

from dataclasses import dataclass
from enum import Enum

from hybrid.errors import UnsupportedModel, UsageError
from hybrid.models.expert_config import ExpertConfig, read_experts
from hybrid.models.keys import ANOTHER_FILE, Keys, ModelFile
from hybrid.models.rope_config import RopeConfig, read_rope
from hybrid.tokenizer.pretokenizers import CONVENTIONS
from placement.inventory import ModelShape

ARCHITECTURES = ("deepseek2",)


class KeyValueForm(str, Enum):
    """How a file holds the per-head matrices from the latent to keys and values."""

    # attn_kv_b: legacy files, and ik_llama.cpp's, which hold attn_k_b and attn_v_b beside it
    JOINED = "joined"
    SPLIT = "split"  # attn_k_b (transposed) and attn_v_b: llama.cpp since April 2025


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Lengths in values; nope, rope.length and value are one head's: key without position, rotated
    key, value.

    layers        trunk blocks; in the file nextn_layers blocks of next-token prediction follow them
    query_latent  values of the query's latent, 0 when queries come straight from the activations
    latent        values of the latent of keys and values
    """

    architecture: str
    layers: int
    nextn_layers: int
    dense_layers: int
    context_tokens: int
    vocabulary: int
    embedding_length: int
    feed_forward_length: int
    norm_epsilon: float
    heads: int
    nope: int
    value: int
    latent: int
    query_latent: int
    key_value_form: KeyValueForm
    tied_head: bool
    rope: RopeConfig
    experts: ExpertConfig

    @classmethod
    def from_gguf(cls, file: ModelFile, conventions: str = "trained") -> "ModelConfig":
        """Read and check metadata and the attention tensors' shapes; no tensor data is read.

        Raises UnsupportedModel for the file's first mistake, UsageError for unknown conventions.
        Source: keys and defaults as llama.cpp reads them for deepseek2.
        """
        if conventions not in CONVENTIONS:
            raise UsageError(
                f"unknown conventions {conventions!r}", remedy=f"one of {', '.join(CONVENTIONS)}"
            )
        config = _read(Keys(file, _architecture(file)), trained=conventions == "trained")
        _check_attention_shapes(config, file)
        return config

    @property
    def key_length(self) -> int:
        """Values of one head's key, both parts."""
        return self.nope + self.rope.length

    @property
    def cache_row_length(self) -> int:
        """Values cached per token and layer."""
        return self.latent + self.rope.length

    @property
    def shared_feed_forward_length(self) -> int:
        """Hidden values of the shared experts together."""
        return self.experts.shared * self.experts.feed_forward_length

    def shape(self) -> ModelShape:
        """The dimensions that placement computes cache and scratch bytes from."""
        return ModelShape(
            layers=self.layers,
            dense_layers=self.dense_layers,
            embedding_length=self.embedding_length,
            feed_forward_length=self.feed_forward_length,
            head_count=self.heads,
            key_length=self.key_length,
            value_length=self.value,
            latent_length=self.latent,
            rope_length=self.rope.length,
            vocabulary=self.vocabulary,
            expert_count=self.experts.count,
            expert_used_count=self.experts.used,
            expert_feed_forward_length=self.experts.feed_forward_length,
            shared_feed_forward_length=self.shared_feed_forward_length,
            trained_context_tokens=self.context_tokens,
        )


def _architecture(file: ModelFile) -> str:
    name = file.metadata.get("general.architecture")
    if name in ARCHITECTURES:
        return str(name)
    found = "no metadata key general.architecture" if name is None else f"architecture {name!r}"
    raise UnsupportedModel(
        f"{file.path} has {found}",
        f"this program runs {', '.join(ARCHITECTURES)}",
        remedy="use a GGUF of DeepSeek V2, V2-Lite, V3, R1 or Kimi-K2",
    )


def _read(keys: Keys, trained: bool) -> ModelConfig:
    _refuse_temperature(keys)
    blocks, nextn = keys.count("block_count"), keys.count("nextn_predict_layers", 0, least=0)
    if nextn >= blocks:
        raise keys.fault("nextn_predict_layers", f"is {nextn} of {blocks} blocks: no trunk is left")
    dense = min(keys.count("leading_dense_block_count", 0, least=0), blocks - nextn)
    embedding, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    context = keys.count("context_length")
    key, value = _head_lengths(keys, embedding // heads)
    rope = read_rope(keys, key, context, trained)
    vocabulary = _vocabulary(keys)
    has_experts = dense < blocks - nextn
    return ModelConfig(
        architecture=keys.architecture,
        layers=blocks - nextn,
        nextn_layers=nextn,
        dense_layers=dense,
        context_tokens=context,
        vocabulary=vocabulary,
        embedding_length=embedding,
        feed_forward_length=keys.count("feed_forward_length") if dense else 0,
        norm_epsilon=keys.number("attention.layer_norm_rms_epsilon", positive=True),
        heads=heads,
        nope=key - rope.length,
        value=value,
        latent=keys.count("attention.kv_lora_rank"),
        query_latent=_query_latent(keys),
        key_value_form=_key_value_form(keys),
        tied_head="output.weight" not in keys.file.tensors,
        rope=rope,
        experts=read_experts(keys, blocks, vocabulary, trained) if has_experts else ExpertConfig(),
    )


def _refuse_temperature(keys: Keys) -> None:
    if keys.number("attention.temperature_scale", 0.0) > 0:
        raise keys.fault(
            "attention.temperature_scale",
            "asks for queries scaled by their position",
            "that is the attention of Mistral-Large-3 exports, which this program does not compute",
        )


def _head_lengths(keys: Keys, default: int) -> tuple[int, int]:
    """Of one head's key and value. In split files key_length and value_length are the cache's."""
    split = _key_value_form(keys) is KeyValueForm.SPLIT
    if split or keys.count("attention.key_length_mla", 0, least=0):
        return keys.count("attention.key_length_mla"), keys.count("attention.value_length_mla")
    default = max(default, 1)
    return (
        keys.count("attention.key_length", default),
        keys.count("attention.value_length", default),
    )


def _key_value_form(keys: Keys) -> KeyValueForm:
    tensors = keys.file.tensors
    if "blk.0.attn_kv_b.weight" in tensors:
        return KeyValueForm.JOINED
    if "blk.0.attn_k_b.weight" in tensors and "blk.0.attn_v_b.weight" in tensors:
        return KeyValueForm.SPLIT
    raise UnsupportedModel(
        f"{keys.file.path} has neither blk.0.attn_kv_b.weight nor both blk.0.attn_k_b.weight "
        "and blk.0.attn_v_b.weight",
        remedy=ANOTHER_FILE,
    )


def _query_latent(keys: Keys) -> int:
    """Told by the tensors: for models without a query latent converters write rank 0 or nothing."""
    tensors = keys.file.tensors
    if "blk.0.attn_q.weight" in tensors:
        return 0
    down = tensors.get("blk.0.attn_q_a.weight")
    if down is None:
        raise UnsupportedModel(
            f"{keys.file.path} has neither blk.0.attn_q.weight nor blk.0.attn_q_a.weight",
            remedy=ANOTHER_FILE,
        )
    return keys.count("attention.q_lora_rank", down.shape[0])


def _vocabulary(keys: Keys) -> int:
    """vocab_size, else the length of the token list, else the rows of the embedding."""
    tokens = keys.file.metadata.get("tokenizer.ggml.tokens")
    embedding = keys.file.tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None else None
    return keys.count("vocab_size", len(tokens) if tokens else rows)


def _check_attention_shapes(config: ModelConfig, file: ModelFile) -> None:
    """The head lengths of the metadata against the first block, whose matrices they cut."""
    latent, heads = config.latent, config.heads
    query_from = config.query_latent or config.embedding_length
    query = "attn_q_b" if config.query_latent else "attn_q"
    expected = {
        "token_embd": (config.vocabulary, config.embedding_length),
        f"blk.0.{query}": (heads * config.key_length, query_from),
        "blk.0.attn_kv_a_mqa": (config.cache_row_length, config.embedding_length),
        "blk.0.attn_output": (config.embedding_length, heads * config.value),
    }
    if config.key_value_form is KeyValueForm.JOINED:
        expected["blk.0.attn_kv_b"] = (heads * (config.nope + config.value), latent)
    for stem, shape in expected.items():
        tensor = file.tensors.get(f"{stem}.weight")
        found = None if tensor is None else tuple(tensor.shape)
        if found != shape:
            raise UnsupportedModel(
                f"{file.path}: tensor {stem}.weight "
                + ("is missing" if found is None else f"has shape {list(found)}"),
                f"the metadata ask for {list(shape)}: {heads} heads, keys of {config.nope} + "
                f"{config.rope.length}, values of {config.value}, latent of {latent}",
                remedy=ANOTHER_FILE,
            )
