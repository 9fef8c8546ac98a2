"""How long a plan takes: tokens per second with their parts, and the seconds of each piece that a
solver chooses between. Pure functions of plain data; `docs/planner.md` has the formulas.

    predict()   plan -> Prediction: speeds at several depths, what binds, how sure it is
    Costs       piece -> seconds: the same formulas before there is a plan

The pieces of a plan add up to what `predict` says, but for what only a whole plan has: blocks that
fall back, exact kernels, graphs beside the first, calibration.
"""

from collections.abc import Callable, Mapping

from placement.cost.expert_stats import EVEN, ExpertStats
from placement.cost.gpu import Moment
from placement.cost.node_reads import nodes_error
from placement.cost.pieces import PartCosts, Placed, speeds_of_run
from placement.cost.whole import PlanCost
from placement.cost.work import LayerWork, Matrices, model_work
from placement.inventory import ModelInventory
from placement.machines.calibration import WORKS, Calibration
from placement.machines.estimates import speeds_of
from placement.machines.machine import CPU, Machine
from placement.plan import PlacementPlan
from placement.prediction import IN_CACHES, PARTS, Pace, Prediction
from placement.workload import Workload

GOALS = ("decode", "prompt", "balanced")
DEPTHS = (0, 4096, 16384, 65536)
UNMEASURED_ERROR = 0.2  # of a token's bytes in formats whose speed nobody measured
DISC_ERROR = 0.5  # of a time that waits for a drive nobody measured
FALLBACK_ERROR = 0.5  # the reference waits for Python: half or twice as fast elsewhere
MOST_ERROR = 0.9
# A CPU's last cache has 16 to 64 MiB within reach of a core, an H200's 50: what lies there is read
# several times as fast as memory.
CACHED_MODEL_BYTES = 64 << 20

_Seconds = Callable[[Moment], Mapping[str, float]]

_LIMITS = {
    "GPU attention": "cache and attention on GPUs",
    "GPU products": "reading weights from GPU memory",
    "CPU attention": "attention on CPU",
    "CPU experts": "RAM read on CPU",
    "CPU products": "RAM read on CPU",
    "disc": "disc: weights that RAM cannot keep",
    "PCIe": "PCIe",
    "crossing": "crossings between GPU and CPU",
    "launch": "launches and waits of blocks",
    "host": "the host outside all kernels",
}


class Costs:
    """Seconds a token of pieces of a model on a machine; made once, asked thousands of times.

    goal   "decode": a token at half of the context
           "prompt": a token of a full micro-batch, in the middle of a prompt of half the context
           "balanced": their mean, where a prompt's seconds count as much as a token's in a plan
           with all blocks on the first GPU and all routed experts in RAM
    """

    def __init__(self, inventory: ModelInventory, machine: Machine, workload: Workload) -> None:
        self._work = model_work(inventory)
        speeds = speeds_of_run(speeds_of(machine), workload)
        self._parts = PartCosts(inventory.shape, workload, speeds)
        half = max(workload.context_tokens // 2, 1)
        tokens = min(workload.ubatch_tokens, half)
        self._moments = {"decode": Moment(half), "prompt": Moment(half // 2, tokens)}
        # layers that are alike have one number, and one entry in the table of answers
        numbers: dict[LayerWork, int] = {}
        self._kinds = [numbers.setdefault(work, len(numbers)) for work in self._work.layers]
        self._alike = list(numbers)
        self._answers: dict[tuple[object, ...], float] = {}
        self._prompt_weight = self._decode_of_prompt([gpu.name for gpu in machine.gpus])

    def block(self, layer: int, home: str, goal: str) -> float:
        """Block `layer` without its routed experts, living on device `home`."""
        return self._layer(layer, home, None, goal)

    def experts(self, layer: int, home: str, in_ram: float, goal: str) -> float:
        """What its routed experts add when this share of choices is computed in RAM, the rest at
        home; the crossing included. 0 for a block that has none.
        """
        return self._layer(layer, home, in_ram, goal) - self._layer(layer, home, None, goal)

    def head(self, home: str, goal: str) -> float:
        """The output head on device `home`."""
        return self._weighed(goal, lambda moment: self._parts.head(self._work.head, home))

    def handover(self, before: str, after: str, goal: str) -> float:
        """Between the homes of neighbouring blocks, or of the last one and the head."""
        return self._weighed(
            goal, lambda moment: self._parts.handover(before, after, moment.tokens)
        )

    def host(self, goal: str) -> float:
        """What no placement changes."""
        return self._weighed(goal, lambda moment: self._parts.host())

    def _layer(self, layer: int, home: str, in_ram: float | None, goal: str) -> float:
        key = (self._kinds[layer], home, in_ram, goal)
        if key not in self._answers:
            work = self._alike[self._kinds[layer]]
            if in_ram is None:
                work = LayerWork(work.attention, work.beside, Matrices(), 0, 0)
            placed = Placed(home, in_ram or 0.0)
            self._answers[key] = self._weighed(
                goal, lambda moment: self._parts.block(work, placed, moment)
            )
        return self._answers[key]

    def _weighed(self, goal: str, of: _Seconds) -> float:
        if goal != "balanced":
            moment = self._moments[goal]
            return sum(of(moment).values()) / moment.tokens
        decode, prompt = self._weighed("decode", of), self._weighed("prompt", of)
        return (decode + self._prompt_weight * prompt) / 2

    def _decode_of_prompt(self, gpus: list[str]) -> float:
        """A token's seconds over a prompt token's, in the plan that "balanced" speaks of."""
        home = gpus[0] if gpus else CPU
        whole = {
            goal: sum(self._layer(layer, home, 1.0, goal) for layer in range(len(self._kinds)))
            + self.head(home, goal)
            + self.host(goal)
            for goal in self._moments
        }
        return whole["decode"] / whole["prompt"]


def predict(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine, usage: ExpertStats = EVEN
) -> Prediction:
    """Speeds of a plan on a machine whose speeds are known or estimated.

    usage   which routed experts are chosen how often
    """
    speeds, taught = speeds_of(machine), _taught(machine)
    cost, load = PlanCost(plan, inventory, speeds, usage), plan.workload
    decode = tuple(_decode_pace(cost, depth, taught) for depth in decode_depths(load))
    of_speeds = speeds.error + nodes_error(plan, machine, speeds)
    of_disc = DISC_ERROR * _share(decode[0], "disc")  # which no run taught anything about
    cached = inventory.nbytes < CACHED_MODEL_BYTES
    return Prediction(
        decode=decode,
        prompt=tuple(_prompt_pace(cost, *case, load, taught) for case in prompt_cases(load)),
        error=MOST_ERROR if cached else min(_error(cost, of_speeds, taught) + of_disc, MOST_ERROR),
        limit=limit_text(decode[0], cost.waits_for_cores(load.threads)),
        source=speeds.source + _corrected(cost, taught) + IN_CACHES * cached,
    )


def expected_pace(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine, depth: int, tokens: int = 0
) -> tuple[Pace, str]:
    """The speed of a run that was made, and its kind for `Calibration.observed`; no kind where it
    says nothing of others: caches may hold the model, or a disc had a part in it.

    depth    tokens in the cache before the prompt, or half way through what was decoded
    tokens   of the prompt; 0: decoding
    """
    cost, taught = PlanCost(plan, inventory, speeds_of(machine)), _taught(machine)
    if tokens:
        pace, kind = _prompt_pace(cost, tokens, depth, plan.workload, taught), cost.kind("prompt")
    else:
        pace, kind = _decode_pace(cost, depth, taught), cost.kind("decode")
    teaches = inventory.nbytes >= CACHED_MODEL_BYTES and not pace.seconds.get("disc")
    return pace, kind if teaches else ""


def decode_depths(workload: Workload) -> tuple[int, ...]:
    """DEPTHS and the last of the context, as far as it reaches."""
    last = workload.context_tokens - 1
    return (*(depth for depth in DEPTHS if depth < last), last)


def prompt_cases(workload: Workload) -> tuple[tuple[int, int], ...]:
    """(tokens, depth): a prompt of a micro-batch at DEPTHS and at the context's end."""
    tokens = min(workload.ubatch_tokens, workload.context_tokens)
    last = workload.context_tokens - tokens
    return tuple((tokens, depth) for depth in (*(d for d in DEPTHS if d < last), last))


def _taught(machine: Machine) -> Calibration:
    return machine.speeds.calibration if machine.speeds else Calibration()


def _decode_pace(cost: PlanCost, depth: int, taught: Calibration) -> Pace:
    return _pace(depth, 1, cost.decode(depth), taught.factor(cost.kind("decode")))


def _prompt_pace(
    cost: PlanCost, tokens: int, depth: int, workload: Workload, taught: Calibration
) -> Pace:
    seconds = cost.prompt(tokens, depth, workload.ubatch_tokens)
    return _pace(depth, tokens, seconds, taught.factor(cost.kind("prompt")))


def _pace(depth: int, tokens: int, seconds: Mapping[str, float], factor: float) -> Pace:
    each = {
        part: seconds[part] * (1.0 if part == "disc" else factor) / tokens
        for part in PARTS
        if seconds.get(part)
    }
    return Pace(depth, tokens, 1 / sum(each.values()), each)


def _error(cost: PlanCost, of_speeds: float, taught: Calibration) -> float:
    """The wider one of both works."""
    errors = []
    for kind in map(cost.kind, WORKS):
        error = of_speeds + UNMEASURED_ERROR * cost.unmeasured_share()
        error += FALLBACK_ERROR if kind.endswith("_reference") else 0.0
        errors.append(taught.error(kind, error))
    return max(errors)


def _share(pace: Pace, part: str) -> float:
    return pace.seconds.get(part, 0.0) * pace.tokens_per_s


def _corrected(cost: PlanCost, taught: Calibration) -> str:
    """How many runs the factors of both works come from, at most."""
    runs = max(taught.runs(cost.kind(work)) for work in WORKS)
    return f", corrected by {runs} run{'' if runs == 1 else 's'}" if runs else ""


def limit_text(pace: Pace, waits_for_cores: bool) -> str:
    """ "RAM read on CPU: 7.6 of 9.2 ms a token at depth 0 (83%)"."""
    by_words: dict[str, float] = {}
    for part, seconds in pace.seconds.items():
        words = _LIMITS[part]
        if waits_for_cores and part == "CPU experts":
            words = "the CPU's arithmetic"
        by_words[words] = by_words.get(words, 0.0) + seconds
    whole = sum(by_words.values())
    words = max(by_words, key=by_words.__getitem__)
    most = by_words[words]
    return f"{words}: {_ms(most)} of {_ms(whole)} ms a token at depth 0 ({most / whole:.0%})"


def _ms(seconds: float) -> str:
    """Three digits, all of those before the point: "0.0312", "7.6", "1742"."""
    return f"{1e3 * seconds:.3g}" if seconds < 0.9995 else f"{1e3 * seconds:.0f}"
