"""A bench as if it had been measured: two placements at two depths, a third that failed."""

from hybrid.cli.bench_placements import Placement
from hybrid.cli.bench_record import Bench, Failure, PlacementRun
from hybrid.runtime.bench import BenchCase, BenchResult, Work
from hybrid.runtime.bench_limits import RAM, ReadLimit

IN_RAM, ON_GPU = Placement(1, "exps=CPU", ("exps=CPU",)), Placement(2, ".*=CUDA0", (".*=CUDA0",))
TOO_LARGE = Placement(3, "exps=CUDA1", ("exps=CUDA1",))


def prompt(depth: int, speed: float) -> BenchResult:
    speeds = (speed, 0.9 * speed, 1.1 * speed)
    return BenchResult(BenchCase(Work.PROMPT, 128, depth), speeds, {}, predicted_tok_s=speed)


def decode(depth: int, speed: float, memory: str = RAM) -> BenchResult:
    limit = ReadLimit(2 * speed, memory, is_measured=memory == RAM)
    speeds = (speed, 0.95 * speed, 1.05 * speed)
    case = BenchCase(Work.DECODE, 32, depth)
    return BenchResult(case, speeds, {"CPU": 1 << 30}, 1 << 30, limit, 0.8 * speed)


def measured() -> Bench:
    runs = [
        PlacementRun(IN_RAM, [prompt(0, 60), decode(0, 10), prompt(64, 50), decode(64, 9)]),
        PlacementRun(ON_GPU, [prompt(0, 70), decode(0, 20, "CUDA0"), prompt(64, 65)]),
        PlacementRun(TOO_LARGE, error=Failure("too large", ("1 GiB is free",), ("a smaller -c",))),
    ]
    return Bench("model.gguf", 3, "fast", runs)
