"""The screen where there is no terminal: one line a second, for logs."""

from hybrid.live.snapshot import DeviceView, Phase, Snapshot
from hybrid.tui.amounts import duration, gb_s, percent, signed_percent, size, tokens_s
from hybrid.tui.findings import (
    compared_speed,
    comparison,
    difference,
    predicted_tok_s,
    ram_limit,
    read_speed,
    reason,
    warnings,
)
from hybrid.tui.lines import one_line
from hybrid.tui.parts import with_named_parts

MOST_DEVICES = 4


def plain_line(snapshot: Snapshot) -> str:
    """What the screen says first, on one line without control characters; absent parts left out.

    "decode 9.8 tok/s, run 9.7, 9.7 over 10 s, predicted 10.2 (-5 %); 345 tokens; CUDA0 16.1 ..."
    """
    snapshot = with_named_parts(snapshot)
    parts = [_speed(snapshot), *_progress(snapshot)]
    if snapshot.rates.decode_tokens:
        parts.append(f"{snapshot.rates.decode_tokens} tokens")
    parts += [_device(device) for device in snapshot.devices[:MOST_DEVICES]]
    if len(snapshot.devices) > MOST_DEVICES:
        parts.append(f"{len(snapshot.devices) - MOST_DEVICES} devices more")
    read, limit = read_speed(snapshot)
    if read is not None:
        parts.append(
            f"RAM {gb_s(read)}" + (f" of {ram_limit(snapshot, limit)}" if limit else "") + " GB/s"
        )
    parts += [text for text in (reason(snapshot).split(";")[0],) if text]
    parts += [f"amiss: {text}" for text in warnings(snapshot)]
    if snapshot.error:
        parts.append(f"error: {snapshot.error}")
    return one_line("; ".join(part for part in parts if part))


def _speed(snapshot: Snapshot) -> str:
    rates = snapshot.rates
    phase = Phase.PROMPT if snapshot.phase is Phase.PROMPT else Phase.DECODE
    predicted = predicted_tok_s(snapshot, phase)
    now, run = rates.decode_now_tok_s, rates.decode_run_tok_s
    if phase is Phase.PROMPT:
        now, run = rates.prompt_now_tok_s, rates.prompt_run_tok_s
    parts = [f"{snapshot.phase.value} {tokens_s(now)} tok/s" if now is not None else ""]
    parts = parts if parts[0] else [snapshot.phase.value]
    if run is not None:
        parts.append(f"run {tokens_s(run)}")
    its = comparison(snapshot, phase)
    if its is not None:
        parts.append(compared_speed(its, phase))
    if predicted is not None:
        off = difference(snapshot)
        beside = f" ({signed_percent(off)})" if off is not None else ""
        parts.append(f"predicted {tokens_s(predicted)}{beside}")
    return ", ".join(parts)


def _progress(snapshot: Snapshot) -> list[str]:
    progress = snapshot.progress
    if progress is None or not progress.total:
        return []
    left = f", {duration(progress.eta_s)} left" if progress.eta_s is not None else ""
    return [f"{progress.what} {percent(progress.done / progress.total)}{left}"]


def _device(device: DeviceView) -> str:
    memory = device.memory
    total = memory.total_bytes
    if memory.actual_bytes is None:
        return f"{device.name} plan {size(memory.planned_bytes, total)} of {size(total)}"
    return f"{device.name} {size(memory.actual_bytes, total)} of {size(total)}"
