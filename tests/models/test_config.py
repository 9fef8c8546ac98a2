"""What files say, what they leave out, and what they get wrong."""

import math
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from hybrid.errors import UnsupportedModel, UsageError
from hybrid.models.config import ARCHITECTURES, KeyValueForm, ModelConfig
from hybrid.models.registry import BUILDERS


@dataclass(frozen=True)
class Shape:
    shape: tuple[int, ...]


METADATA: dict[str, Any] = {
    "general.architecture": "deepseek2",
    "deepseek2.block_count": 61,
    "deepseek2.context_length": 163840,
    "deepseek2.embedding_length": 7168,
    "deepseek2.feed_forward_length": 18432,
    "deepseek2.attention.head_count": 128,
    "deepseek2.attention.head_count_kv": 1,
    "deepseek2.attention.layer_norm_rms_epsilon": 1e-6,
    "deepseek2.attention.q_lora_rank": 1536,
    "deepseek2.attention.kv_lora_rank": 512,
    "deepseek2.attention.key_length": 576,
    "deepseek2.attention.value_length": 512,
    "deepseek2.attention.key_length_mla": 192,
    "deepseek2.attention.value_length_mla": 128,
    "deepseek2.rope.dimension_count": 64,
    "deepseek2.rope.freq_base": 10000.0,
    "deepseek2.rope.scaling.type": "yarn",
    "deepseek2.rope.scaling.factor": 40.0,
    "deepseek2.rope.scaling.original_context_length": 4096,
    "deepseek2.rope.scaling.yarn_log_multiplier": 0.1,
    "deepseek2.leading_dense_block_count": 3,
    "deepseek2.expert_count": 256,
    "deepseek2.expert_used_count": 8,
    "deepseek2.expert_feed_forward_length": 2048,
    "deepseek2.expert_shared_count": 1,
    "deepseek2.expert_weights_scale": 2.5,
    "deepseek2.expert_weights_norm": True,
    "deepseek2.expert_gating_func": 2,
    "deepseek2.expert_group_count": 8,
    "deepseek2.expert_group_used_count": 4,
    "deepseek2.vocab_size": 129280,
}
TENSORS = {
    "token_embd.weight": (129280, 7168),
    "output.weight": (129280, 7168),
    "blk.0.attn_q_a.weight": (1536, 7168),
    "blk.0.attn_q_b.weight": (24576, 1536),
    "blk.0.attn_kv_a_mqa.weight": (576, 7168),
    "blk.0.attn_k_b.weight": (128, 512, 128),
    "blk.0.attn_v_b.weight": (128, 128, 512),
    "blk.0.attn_output.weight": (7168, 16384),
}


@dataclass(frozen=True)
class V3File:
    """The header of DeepSeek-V3, with changes; None takes a key or a tensor away."""

    changes: dict[str, Any] = field(default_factory=dict)
    path: str = "v3.gguf"

    @property
    def metadata(self) -> dict[str, Any]:
        changes = {k: v for k, v in self.changes.items() if not k.endswith(".weight")}
        full = METADATA | {full_key(key): value for key, value in changes.items()}
        return {key: value for key, value in full.items() if value is not None}

    @property
    def tensors(self) -> dict[str, Shape]:
        full = TENSORS | {k: v for k, v in self.changes.items() if k.endswith(".weight")}
        return {name: Shape(shape) for name, shape in full.items() if shape is not None}


def full_key(key: str) -> str:
    return key if key.startswith(("general.", "deepseek2.")) else f"deepseek2.{key}"


def config_with(conventions: str = "trained", **changes: Any) -> ModelConfig:
    """Dots of keys are written as two underscores."""
    plain = {key.replace("__", "."): value for key, value in changes.items()}
    return ModelConfig.from_gguf(V3File(plain), conventions)


def test_v3_is_read_as_its_report_states_it() -> None:
    config = config_with()
    assert (config.layers, config.dense_layers, config.heads) == (61, 3, 128)
    assert (config.nope, config.rope.length, config.value, config.latent) == (128, 64, 128, 512)
    assert config.query_latent == 1536
    assert config.key_value_form is KeyValueForm.SPLIT
    assert config.rope.attention_scale == pytest.approx(0.1352338)
    assert config.rope.amplitude == 1.0
    experts = config.experts
    assert (experts.gating, experts.group_score) == ("sigmoid", "top2_sum")
    assert (experts.groups, experts.groups_used) == (8, 4)
    shape = config.shape()
    assert shape.cache_row_length == 576
    assert shape.shared_feed_forward_length == 2048
    assert shape.vocabulary == 129280


def test_legacy_file_is_told_by_its_tensor_names() -> None:
    legacy = {
        "blk.0.attn_k_b.weight": None,
        "blk.0.attn_v_b.weight": None,
        "blk.0.attn_kv_b.weight": (32768, 512),
        "attention.key_length_mla": None,
        "attention.value_length_mla": None,
        "attention.key_length": 192,
        "attention.value_length": 128,
    }
    config = ModelConfig.from_gguf(V3File(legacy))
    assert config.key_value_form is KeyValueForm.JOINED
    assert (config.nope, config.value) == (128, 128)
    both = {"blk.0.attn_k_b.weight": (65536, 128), "blk.0.attn_v_b.weight": (16384, 512)}
    assert ModelConfig.from_gguf(V3File(legacy | both)) == config


def test_lite_file_is_told_by_its_query_tensor_whatever_its_rank_key_says() -> None:
    plain = {"blk.0.attn_q_a.weight": None, "blk.0.attn_q.weight": (24576, 7168)}
    for rank in (0, None):
        config = ModelConfig.from_gguf(V3File(plain | {"attention.q_lora_rank": rank}))
        assert config.query_latent == 0
    assert config_with(attention__q_lora_rank=None).query_latent == 1536


def test_optional_keys_have_their_defaults() -> None:
    absent = [
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
        "expert_weights_scale",
        "expert_weights_norm",
        "expert_gating_func",
        "expert_group_count",
        "expert_group_used_count",
        "vocab_size",
    ]
    config = ModelConfig.from_gguf(V3File(dict.fromkeys(f"deepseek2.{key}" for key in absent)))
    assert (config.rope.base, config.rope.linear_factor) == (10000.0, 1.0)
    assert config.rope.yarn_factor == 0
    assert config.rope.attention_scale == pytest.approx(1 / math.sqrt(192))
    experts = config.experts
    assert (experts.scale, experts.normalise, experts.gating) == (1.0, False, "softmax")
    assert (experts.groups, experts.groups_used) == (1, 1)
    assert config.vocabulary == 129280


def test_scale_of_zero_means_none() -> None:
    assert config_with(expert_weights_scale=0.0).experts.scale == 1.0


def test_unnamed_gating_of_glm_flash_is_sigmoid() -> None:
    glm = {"deepseek2.expert_gating_func": None, "deepseek2.block_count": 48}
    glm |= {"token_embd.weight": (154880, 7168), "deepseek2.vocab_size": 154880}
    assert ModelConfig.from_gguf(V3File(glm)).experts.gating == "sigmoid"
    glm |= {"deepseek2.block_count": 46}
    assert ModelConfig.from_gguf(V3File(glm)).experts.gating == "softmax"


def test_mtp_blocks_are_not_of_the_trunk() -> None:
    config = config_with(nextn_predict_layers=1)
    assert (config.layers, config.nextn_layers) == (60, 1)
    assert config.shape().layers == 60


def test_values_per_layer_are_taken_when_they_agree() -> None:
    per_layer = [18432] * 3 + [0] * 58
    config = config_with(attention__head_count=[128] * 61, feed_forward_length=per_layer)
    assert (config.heads, config.feed_forward_length) == (128, 18432)
    with pytest.raises(UnsupportedModel, match="feed_forward_length holds 2 values per layer"):
        config_with(feed_forward_length=[1024, 2048])


def test_conventions_decide_how_softmax_groups_are_scored() -> None:
    assert config_with(expert_gating_func=1).experts.group_score == "max"
    llama = config_with("llama.cpp", expert_gating_func=1)
    assert llama.experts.group_score == "top2_sum"
    assert config_with("llama.cpp").experts == config_with().experts


def test_conventions_decide_whether_betas_are_read() -> None:
    beta = {"rope__scaling__yarn_beta_fast": 1.0, "rope__scaling__yarn_beta_slow": 2.0}
    trained, llama = config_with(**beta).rope, config_with("llama.cpp", **beta).rope
    assert (trained.beta_fast, trained.beta_slow) == (1.0, 2.0)
    assert (llama.beta_fast, llama.beta_slow) == (32.0, 1.0)


@pytest.mark.parametrize("multiplier", [None, 0.0])
def test_conventions_decide_what_a_missing_log_multiplier_means(multiplier: float | None) -> None:
    changes = {"rope__scaling__yarn_log_multiplier": multiplier}
    trained, llama = config_with(**changes).rope, config_with("llama.cpp", **changes).rope
    larger = 1 + 0.1 * math.log(40)
    assert trained.amplitude == llama.amplitude == pytest.approx(larger)
    assert trained.attention_scale == pytest.approx(192**-0.5)
    assert llama.attention_scale == pytest.approx(larger**2 * 192**-0.5)


def test_linear_scaling_divides_frequencies_only() -> None:
    for key in ("rope__scaling__factor", "rope__scale_linear"):
        changes = {"rope__scaling__type": "linear", "rope__scaling__factor": None, key: 4.0}
        rope = config_with(**changes).rope
        assert (rope.linear_factor, rope.amplitude, rope.yarn_factor) == (4.0, 1.0, 0.0)
        assert rope.attention_scale == pytest.approx(192**-0.5)
    assert config_with(rope__scaling__type="none").rope.linear_factor == 1.0


REQUIRED = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
    "attention.kv_lora_rank",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_shared_count",
    "expert_group_used_count",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_key_is_named_with_its_file(key: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"v3\.gguf has no .* deepseek2\.{key}\n"):
        ModelConfig.from_gguf(V3File({f"deepseek2.{key}": None}))


UNUSED = ("head_count_kv", "attention.key_length", "attention.value_length")
USED = [key for key in METADATA if key.startswith("deepseek2.") and not key.endswith(UNUSED)]


@pytest.mark.parametrize("key", USED)
@pytest.mark.parametrize("value", [[1, 2], [], {}, b"", math.nan, math.inf, -1])
def test_wrong_value_of_any_key_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModel, match=rf"v3\.gguf: metadata key {key} "):
        ModelConfig.from_gguf(V3File({key: value}))


@pytest.mark.parametrize("key", [key for key in USED if isinstance(METADATA[key], int)])
def test_absurd_count_of_any_key_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"v3\.gguf: metadata key {key} is"):
        ModelConfig.from_gguf(V3File({key: 1 << 60}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general.architecture": "mamba"}, "architecture 'mamba'.*this program runs deepseek2"),
        ({"general.architecture": None}, "no metadata key general.architecture"),
        ({"rope.scaling.type": "longrope"}, "'longrope'.*known .*: none, linear, yarn"),
        ({"expert_gating_func": 4}, "is 4.*1 softmax, 2 sigmoid"),
        ({"attention.temperature_scale": 0.1}, "Mistral-Large-3"),
        ({"expert_used_count": 300}, "is 300 of 256 experts"),
        ({"expert_group_count": 7}, "256 experts are not cut so"),
        ({"expert_group_used_count": 9}, "is 9 of 8 groups"),
        ({"expert_count": 16, "expert_group_used_count": 3}, "uses 8 of 16 experts"),
        ({"nextn_predict_layers": 61}, "no trunk is left"),
        ({"rope.dimension_count": 63}, "is 63"),
        ({"rope.dimension_count": 192}, "is 192"),
        ({"rope.freq_base": 1.0}, "not above 1"),
        ({"attention.layer_norm_rms_epsilon": 0.0}, "above 0"),
        ({"attention.key_length_mla": 160}, "attn_q_b.weight has shape .24576, 1536.*20480"),
        ({"attention.value_length_mla": 64}, "attn_output.weight has shape"),
        ({"attention.kv_lora_rank": 256}, "attn_kv_a_mqa.weight has shape"),
        ({"vocab_size": 5}, "token_embd.weight has shape"),
        ({"blk.0.attn_output.weight": None}, "attn_output.weight is missing"),
        ({"blk.0.attn_v_b.weight": None}, "neither blk.0.attn_kv_b.weight nor both"),
        ({"blk.0.attn_q_a.weight": None}, "neither blk.0.attn_q.weight nor"),
    ],
)
def test_file_that_cannot_be_run_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"(?s)^v3.gguf.*{words}"):
        ModelConfig.from_gguf(V3File(changes))


def test_unknown_conventions_list_the_known() -> None:
    with pytest.raises(UsageError, match=r"(?s)'hf'.*trained, llama\.cpp"):
        config_with("hf")


def test_registry_builds_every_architecture_that_is_read() -> None:
    assert set(BUILDERS) == set(ARCHITECTURES)


def test_reading_a_configuration_imports_no_torch() -> None:
    code = "import sys, hybrid.models.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
