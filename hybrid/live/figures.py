"""The table of every figure: its name, unit and meaning, once for JSON, Prometheus and the page.

A name is the path of a field of Snapshot; `[]` stands for each device, node or layer. Prometheus
has the same name with `hybrid_` before it and `_` between its words, in the singular:

    devices[].sensors.power_w   ->   hybrid_device_sensors_power_w{device="CUDA0"}
"""

from dataclasses import dataclass

# What Prometheus gets: a value now, a count that only grows, labels of one series, nothing
GAUGE, COUNTER, LABEL, JSON_ALONE = "gauge", "counter", "label", ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One field.

    unit    "" for texts and numbers without one
    kind    GAUGE, COUNTER, LABEL or JSON_ALONE
    label   of the keys or places of a field that holds several values
    """

    path: str
    unit: str
    meaning: str
    kind: str = GAUGE
    label: str = ""

    @property
    def metric(self) -> str:
        """Its name for Prometheus."""
        words = self.path.replace("devices[]", "device").replace("nodes[]", "node")
        return "hybrid_" + words.replace("layers[]", "layer").replace(".", "_")


def _sensors() -> tuple[Figure, ...]:
    rows = (
        ("busy_share", "share", "of the last moments in which any kernel ran, as NVML says"),
        ("temperature_c", "°C", "of the chip"),
        ("power_w", "W", "drawn"),
        ("power_limit_w", "W", "that the card may draw"),
        ("sm_clock_mhz", "MHz", "of the processors"),
        ("memory_clock_mhz", "MHz", "of its memory"),
        ("link_generation", "", "PCIe generation now"),
        ("link_width", "lanes", "PCIe width now"),
        ("link_most_generation", "", "PCIe generation that both ends can"),
        ("link_most_width", "lanes", "PCIe width that both ends can"),
        ("link_sent_bytes_s", "bytes/s", "from the host to the GPU over PCIe"),
        ("link_received_bytes_s", "bytes/s", "from the GPU to the host over PCIe"),
    )
    each = [Figure(f"devices[].sensors.{name}", unit, meaning) for name, unit, meaning in rows]
    reasons = Figure(
        "devices[].sensors.throttle",
        "",
        "reasons for clocks below the highest: those that hold; of all, 1 or 0, for Prometheus",
        label="reason",
    )
    return (*each, reasons)


_FACTS = (
    Figure("version", "", "of this table's form", JSON_ALONE),
    Figure("at", "s", "since 1970: when the figures are of"),
    Figure("facts.pid", "", "number of the process", LABEL),
    Figure("facts.command", "", "run, chat, bench or perplexity", LABEL),
    Figure("facts.model", "", "its name in the file", LABEL),
    Figure("facts.architecture", "", "as the file says", LABEL),
    Figure("facts.plan_line", "", "where layers and experts are", JSON_ALONE),
    Figure("facts.started_at", "s", "since 1970: when the run began"),
    Figure("facts.context_tokens", "tokens", "that the cache has room for"),
    Figure("facts.ubatch_tokens", "tokens", "of a prompt that are computed at once"),
    Figure("facts.threads", "", "of the CPU that compute"),
    Figure("facts.predicted_decode_tok_s", "tokens/s", "as planned, with an empty cache"),
    Figure("facts.predicted_prompt_tok_s", "tokens/s", "as planned, for a prompt's first tokens"),
    Figure("facts.predicted_error", "share", "by which predictions may be wrong, to both sides"),
    Figure("facts.limit", "", "what binds decoding", JSON_ALONE),
    Figure("phase", "", "loading, prompt, decode, idle, ended or failed", label="phase"),
    Figure("error", "", "why the run failed", JSON_ALONE),
    Figure("notes", "", "what the run said of itself", JSON_ALONE),
    Figure("text", "", "the end of what was generated; left out of the stats file", JSON_ALONE),
)
_RATES = (
    Figure("progress.what", "", "what goes on: loading, or a prompt", LABEL),
    Figure("progress.unit", "", "of done and total: bytes or tokens", LABEL),
    Figure("progress.done", "its unit", "so far"),
    Figure("progress.total", "its unit", "in all"),
    Figure("progress.rate_s", "its unit/s", "of the last part"),
    Figure("progress.eta_s", "s", "that the rest takes at that rate"),
    Figure("compared.cached_tokens", "tokens", "in the cache at about the last pass compared"),
    Figure(
        "compared.actual_tok_s",
        "tokens/s",
        "of the last ten seconds of decoding, a run's first tokens left out, or of the last "
        "micro-batches of a prompt",
    ),
    Figure("compared.predicted_tok_s", "tokens/s", "as planned for the like at their depths"),
    Figure("rates.decode_now_tok_s", "tokens/s", "decoded in the last second"),
    Figure("rates.decode_10_s_tok_s", "tokens/s", "decoded in the last ten seconds"),
    Figure("rates.decode_run_tok_s", "tokens/s", "decoded in the whole run"),
    Figure("rates.prompt_now_tok_s", "tokens/s", "of prompts in the last second"),
    Figure("rates.prompt_run_tok_s", "tokens/s", "of prompts in the whole run"),
    Figure("rates.ms_a_token", "ms", "that the last token took"),
    Figure("rates.prompt_tokens", "tokens", "of prompts that were computed", COUNTER),
    Figure("rates.reused_tokens", "tokens", "of prompts that the cache held already", COUNTER),
    Figure("rates.decode_tokens", "tokens", "decoded one by one", COUNTER),
    Figure(
        "rates.history",
        "tokens/s",
        "decoded in each past second, oldest first; left out of the stats file",
        JSON_ALONE,
    ),
)
_DEVICES = (
    Figure("devices[].name", "", "CPU, CUDA0, ...", LABEL),
    Figure("devices[].kind", "", "gpu or cpu", JSON_ALONE),
    Figure("devices[].description", "", "what the device is", JSON_ALONE),
    Figure("devices[].memory.weights", "bytes", "planned, by role", label="role"),
    Figure("devices[].memory.cache_bytes", "bytes", "planned for the cache"),
    Figure("devices[].memory.compute_bytes", "bytes", "planned for work buffers"),
    Figure("devices[].memory.other_bytes", "bytes", "planned for contexts, kernels, programs"),
    Figure("devices[].memory.planned_bytes", "bytes", "planned in all"),
    Figure("devices[].memory.budget_bytes", "bytes", "that the plan may use"),
    Figure("devices[].memory.total_bytes", "bytes", "that the device has"),
    Figure("devices[].memory.actual_bytes", "bytes", "that the process holds"),
    Figure("devices[].memory.peak_bytes", "bytes", "the most that it was seen to hold"),
    Figure("devices[].memory.used_by_all_bytes", "bytes", "that all programs use"),
    Figure(
        "devices[].seconds", "s", "of a token, by part; they sum to its wall time", label="part"
    ),
    Figure("devices[].window", "tokens", "that `seconds` is the mean of"),
    Figure("devices[].cache_used_tokens", "tokens", "in the cache"),
    Figure("devices[].cache_capacity_tokens", "tokens", "that the cache has room for"),
    Figure(
        "devices[].read_bytes_s",
        "bytes/s",
        "of weights and cache while decoding: the plan's bytes of a token by the tokens a second, "
        "computed, not measured",
    ),
    Figure("devices[].read_limit_bytes_s", "bytes/s", "that its memory gives"),
    Figure(
        "devices[].read_limit_is_measured",
        "",
        "1: measured, or told of this machine; 0: estimated from what the device is",
    ),
    Figure("devices[].crossing_bytes", "bytes", "of activations to and from it, a token"),
    *_sensors(),
)
_NODES = (
    Figure("nodes[].node", "", "its number", LABEL),
    Figure("nodes[].total_bytes", "bytes", "of its RAM"),
    Figure("nodes[].used_bytes", "bytes", "of its RAM that all programs use"),
    Figure("nodes[].ours_bytes", "bytes", "of weights and caches of this run"),
    Figure(
        "nodes[].read_bytes_s",
        "bytes/s",
        "as `devices[].read_bytes_s` of the CPU, taken evenly over the nodes; computed, not "
        "measured",
    ),
    Figure("nodes[].read_limit_bytes_s", "bytes/s", "that its RAM gives"),
    Figure("nodes[].read_limit_is_measured", "", "as of the devices"),
    Figure("nodes[].experts_s", "s", "of a token that its cores spent in experts, measured"),
    Figure(
        "nodes[].experts_read_bytes_s",
        "bytes/s",
        "while decoding, by its cores in experts: the plan's bytes of a token's experts, evenly "
        "over the nodes, by the measured `experts_s`",
    ),
    Figure("nodes[].huge_bytes", "bytes", "of this process in huge pages"),
    Figure("nodes[].core_load", "share", "of each core's time that was not idle", label="core"),
)
_LAYERS = (
    Figure("layers[].index", "", "its number", LABEL),
    Figure("layers[].attention", "", "the device of its attention", JSON_ALONE),
    Figure("layers[].experts", "", "devices of its routed experts, by their part", JSON_ALONE),
    Figure("layers[].attention_s", "s", "of a token"),
    Figure("layers[].experts_s", "s", "of a token"),
    Figure(
        "layers[].usage",
        "tokens",
        "that chose each expert; left out of the stats file, see --save-expert-stats",
        JSON_ALONE,
    ),
)
_HOST = (
    Figure("host.resident_bytes", "bytes", "of this process in RAM, files' pages included"),
    Figure("host.major_faults", "", "pages that had to be read from a disc", COUNTER),
    Figure("host.major_faults_s", "1/s", "likewise, a second"),
    Figure("host.disc_read_bytes_s", "bytes/s", "that this process read from discs"),
    Figure("host.huge_bytes", "bytes", "of this process in huge pages"),
    Figure("host.load_share", "share", "of the usable cores' time that was not idle"),
)
FIGURES = (*_FACTS, *_RATES, *_DEVICES, *_NODES, *_LAYERS, *_HOST)


def figure_table() -> str:
    """FIGURES as docs/metrics.md has it."""
    lines = ["| JSON | Prometheus | unit | what |", "|---|---|---|---|"]
    for figure in FIGURES:
        labels = f"{{{figure.label}}}" if figure.label else ""
        shown = {LABEL: "a label", JSON_ALONE: "-"}.get(figure.kind, f"`{figure.metric}{labels}`")
        count = ", a count" if figure.kind == COUNTER else ""
        unit, meaning = figure.unit or "-", f"{figure.meaning}{count}"
        lines.append(f"| `{figure.path}` | {shown} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"
