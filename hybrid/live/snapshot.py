"""One refresh of the live view as plain data: what the screen draws, the socket sends, the stats
file and the metrics hold. None, or an empty tuple, where no source says it: never zero.

Units are in the names: bytes, s (seconds), tok_s (tokens a second), bytes_s (bytes a second), w
(watts), c (degrees Celsius), mhz, share (0 to 1). Shares of time are of the tokens in `window`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

# Parts of a device's time, in the order of its bar. A device has those that it does.
GPU_PARTS = ("attention", "dense", "experts", "head", "crossing", "waiting", "other")
CPU_PARTS = ("experts", "attention", "dense", "head", "sampling", "waiting", "other")


class Phase(str, Enum):
    LOADING = "loading"
    PROMPT = "prompt"
    DECODE = "decode"
    IDLE = "idle"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What does not change in a run.

    plan_line      the plan in one line: "CUDA0 layers 0-26; experts on CPU"
    command        "run", "chat", "bench", "perplexity"
    predicted_*    None without a prediction; error as a share to both sides
    limit          what binds decoding, in words
    """

    pid: int
    command: str
    model: str
    architecture: str
    plan_line: str
    started_at: float
    context_tokens: int
    ubatch_tokens: int
    threads: int
    predicted_decode_tok_s: float | None = None
    predicted_prompt_tok_s: float | None = None
    predicted_error: float | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of loading (bytes) or of a prompt (tokens)."""

    what: str
    unit: str
    done: int
    total: int
    rate_s: float | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second of time inside passes.

    now          of about the last second
    ms_a_token   wall time of the last token
    history      decode tok/s of each past second, oldest first, at most 240
    """

    decode_now_tok_s: float | None = None
    decode_10_s_tok_s: float | None = None
    decode_run_tok_s: float | None = None
    prompt_now_tok_s: float | None = None
    prompt_run_tok_s: float | None = None
    ms_a_token: float | None = None
    prompt_tokens: int = 0
    reused_tokens: int = 0
    decode_tokens: int = 0
    history: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The speed of late passes against the prediction for passes like them, at their depths: of
    the last ten seconds of decoding without the run's first tokens, or a prompt's micro-batches.

    cached_tokens   before about the last of them
    """

    cached_tokens: int
    actual_tok_s: float
    predicted_tok_s: float


@dataclass(frozen=True, slots=True)
class MemoryView:
    """Of one device. weights by role as the plan has them; planned is all of it.

    actual, peak   what the process holds there, and the most it held; None where nothing tells
    used_by_all    by every program, as NVML or /proc/meminfo says
    """

    weights: Mapping[str, int]
    cache_bytes: int
    compute_bytes: int
    other_bytes: int
    planned_bytes: int
    budget_bytes: int
    total_bytes: int
    actual_bytes: int | None = None
    peak_bytes: int | None = None
    used_by_all_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Sensors:
    """What NVML says of a GPU.

    link           generation and width now, and the most that both ends can
    throttle       reasons, empty for none
    """

    busy_share: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle: tuple[str, ...] | None = None
    link_generation: int | None = None
    link_width: int | None = None
    link_most_generation: int | None = None
    link_most_width: int | None = None
    link_sent_bytes_s: float | None = None  # host to GPU
    link_received_bytes_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One row of the screen: a GPU, or the CPU.

    seconds        of a token, by part (GPU_PARTS or CPU_PARTS), mean over `window` tokens; they sum
                   to its wall time. Empty until a token was measured
    window         tokens that `seconds` is the mean of
    read_bytes_s   of weights and cache while decoding: the plan's bytes of a token by the tokens a
                   second; nobody counts them in the memory
    read_limit_*   what its memory gives; whether that was measured or told of this machine, else it
                   is estimated from what the device is
    crossing_bytes activations that went to and from the device, a token
    """

    name: str
    kind: str  # "gpu" or "cpu"
    description: str
    memory: MemoryView
    seconds: Mapping[str, float]
    window: int = 0
    cache_used_tokens: int | None = None
    cache_capacity_tokens: int | None = None
    read_bytes_s: float | None = None
    read_limit_bytes_s: float | None = None
    read_limit_is_measured: bool | None = None
    crossing_bytes: int | None = None
    sensors: Sensors | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One NUMA node's RAM and cores.

    read_bytes_s   as of a device, all of RAM's bytes taken evenly from its nodes
    experts_s      of a token that its cores spent in experts, measured
    experts_read_bytes_s   the plan's bytes of a token's experts, its part, by that time
    core_load      share of each of its usable cores, in order of core
    huge_bytes     of this process in huge pages there
    """

    node: int
    total_bytes: int | None
    used_bytes: int | None
    ours_bytes: int | None = None
    read_bytes_s: float | None = None
    read_limit_bytes_s: float | None = None
    read_limit_is_measured: bool | None = None
    experts_s: float | None = None
    experts_read_bytes_s: float | None = None
    huge_bytes: int | None = None
    core_load: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerView:
    """Where a layer computes, and its time in the last measured tokens.

    experts        devices of its routed experts, in order of share; empty for a dense layer
    usage          times that each expert was chosen since the run began; empty when not counted
    """

    index: int
    attention: str
    experts: tuple[str, ...]
    attention_s: float | None = None
    experts_s: float | None = None
    usage: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HostView:
    """The process and the machine beside the devices."""

    resident_bytes: int | None = None
    major_faults: int | None = None  # since the run began
    major_faults_s: float | None = None
    disc_read_bytes_s: float | None = None
    huge_bytes: int | None = None  # of this process
    load_share: float | None = None  # of all CPUs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One refresh.

    at         seconds since the epoch
    compared   of the phase that goes on, of decoding where none does; None where no prediction is
               of the like: short prompts, the first tokens
    text       the end of what was generated
    """

    at: float
    facts: RunFacts
    phase: Phase
    rates: Rates
    devices: tuple[DeviceView, ...]
    nodes: tuple[NodeView, ...] = ()
    layers: tuple[LayerView, ...] = ()
    host: HostView = HostView()
    progress: Progress | None = None
    compared: Comparison | None = None
    text: str = ""
    error: str | None = None
    notes: tuple[str, ...] = ()
