"""Plans as JSON, both ways. A file that is not a plan, or is damaged, ends in PlanError naming the
field.
"""

from dataclasses import asdict
from typing import Any

from placement.errors import PlanError, ReportedError
from placement.inventory import Role
from placement.machines.machine import UNLOADED
from placement.patterns import check_pattern
from placement.plan import PLAN_VERSION, Assignment, DeviceUse, PlacementPlan
from placement.prediction import Pace, Prediction
from placement.rules import Rule
from placement.workload import NUMA_POLICIES, STREAM_TOKENS, Workload, check_workload

MAX_COUNT = 1 << 62
MAX_NUMBER = 1e30


def to_json(plan: PlacementPlan) -> dict[str, Any]:
    """A dict of plain values for `json.dump`; `from_json` gives an equal plan back."""
    return {
        "version": plan.version,
        "model": {
            "name": plan.model,
            "architecture": plan.architecture,
            "bytes": plan.model_bytes,
        },
        "machine": plan.machine,
        "workload": asdict(plan.workload),
        "rules": [
            {
                "pattern": rule.pattern,
                "device": rule.device,
                "source": rule.source,
                "experts": list(rule.experts) if rule.experts else None,
                "role": rule.role.value if rule.role else None,
                "layers": list(rule.layers) if rule.layers else None,
            }
            for rule in plan.rules
        ],
        "devices": [{**asdict(use), "total_bytes": use.total_bytes} for use in plan.devices],
        "layers": list(plan.layers),
        "assignments": [
            {
                "tensor": part.tensor,
                "experts": list(part.experts) if part.experts else None,
                "device": part.device,
                "bytes": part.nbytes,
                "rule": part.rule,
                "reason": part.reason,
            }
            for part in plan.assignments
        ],
        "prediction": _prediction_json(plan.prediction),
        "notes": list(plan.notes),
    }


def from_json(value: object) -> PlacementPlan:
    """The plan of a parsed JSON file. Raises PlanError naming the first field that is wrong."""
    root = _Field(value, "")
    version = root.key("version").count()
    if version != PLAN_VERSION:
        raise PlanError(
            f"the plan is of version {version}, this program reads version {PLAN_VERSION}",
            remedy="make the plan again with `hybrid plan`",
        )
    model = root.key("model")
    rules = tuple(_rule(field) for field in root.key("rules").items())
    return PlacementPlan(
        model=model.key("name").text(),
        architecture=model.key("architecture").text(),
        model_bytes=model.key("bytes").count(),
        assignments=tuple(_assignment(f, len(rules)) for f in root.key("assignments").items()),
        layers=tuple(field.text() for field in root.key("layers").items()),
        devices=tuple(_device(field) for field in root.key("devices").items()),
        rules=rules,
        workload=_workload(root.key("workload")),
        notes=tuple(field.text() for field in root.key("notes").items()),
        prediction=_prediction(root.key("prediction")) if root.has("prediction") else None,
        machine=root.key("machine").text() if root.has("machine") else "",
    )


class _Field:
    """One value of the file with its path, so that errors can say where."""

    def __init__(self, value: object, path: str) -> None:
        self.value = value
        self.path = path

    def key(self, name: str) -> "_Field":
        path = f"{self.path}.{name}" if self.path else name
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        if name not in self.value:
            raise PlanError(
                f"not a plan: the field {path} is missing",
                remedy="make one with `hybrid plan --json`",
            )
        return _Field(self.value[name], path)

    def names(self) -> list[str]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return list(self.value)

    def has(self, name: str) -> bool:
        return isinstance(self.value, dict) and name in self.value

    def items(self) -> list["_Field"]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [_Field(item, f"{self.path}[{i}]") for i, item in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def count(self) -> int:
        if type(self.value) is not int or not 0 <= self.value <= MAX_COUNT:
            raise self.wrong("a whole number, not negative")
        return self.value

    def number(self) -> float:
        """Positive and finite, or 0."""
        value = self.value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong("a number")
        if not 0 <= value <= MAX_NUMBER:
            raise self.wrong("a number, not negative")
        return float(value)

    def flag(self) -> bool:
        if type(self.value) is not bool:
            raise self.wrong("true or false")
        return self.value

    def range(self) -> tuple[int, int] | None:
        if self.value is None:
            return None
        numbers = [field.count() for field in self.items()]
        if len(numbers) != 2 or numbers[0] > numbers[1]:
            raise self.wrong("[first, last] or null")
        return numbers[0], numbers[1]

    def wrong(self, expected: str) -> PlanError:
        shown = repr(self.value) if len(repr(self.value)) <= 40 else type(self.value).__name__
        return PlanError(
            f"not a plan: {self.path or 'the file'} must be {expected}, not {shown}",
            remedy="make one with `hybrid plan --json`",
        )


def _rule(field: _Field) -> Rule:
    role, pattern = field.key("role"), field.key("pattern").text()
    try:
        check_pattern(pattern, field.key("pattern").path)
    except ReportedError as error:
        raise PlanError(str(error.cause), *error.details, remedy=error.remedies) from None
    known = {known.value: known for known in Role}
    if role.value is not None and role.text() not in known:
        raise role.wrong(f"null or one of {', '.join(known)}")
    return Rule(
        pattern,
        field.key("device").text(),
        field.key("source").text(),
        field.key("experts").range(),
        None if role.value is None else known[role.text()],
        field.key("layers").range(),
    )


def _assignment(field: _Field, rules: int) -> Assignment:
    rule = field.key("rule")
    if rule.value is not None and rule.count() >= rules:
        raise rule.wrong(f"null or the index of one of {rules} rules")
    device = field.key("device").text()
    if not device:
        raise field.key("device").wrong(f"a device name or {UNLOADED!r}")
    return Assignment(
        field.key("tensor").text(),
        field.key("experts").range(),
        device,
        field.key("bytes").count(),
        None if rule.value is None else rule.count(),
        field.key("reason").text(),
    )


def _device(field: _Field) -> DeviceUse:
    categories = ("budget_bytes", "weights_bytes", "cache_bytes", "compute_bytes", "other_bytes")
    sizes = {category: field.key(category).count() for category in categories}
    simulated = field.has("simulated") and field.key("simulated").flag()
    use = DeviceUse(field.key("name").text(), **sizes, simulated=simulated)
    total = field.key("total_bytes")
    if total.count() != use.total_bytes:
        raise total.wrong(f"the sum of its parts, {use.total_bytes}")
    return use


def _workload(field: _Field) -> Workload:
    workload = Workload(
        field.key("context_tokens").count(),
        field.key("ubatch_tokens").count(),
        field.key("cache_format").text(),
        field.key("attention_work_bytes").count(),
        field.key("threads").count(),
        # a plan without the field keeps every cache at its layer's home
        cache_in_ram=field.has("cache_in_ram") and field.key("cache_in_ram").flag(),
        kernels=field.key("kernels").text() if field.has("kernels") else "fast",
        sequences=field.key("sequences").count() if field.has("sequences") else 1,
        numa_policy=field.key("numa_policy").text()
        if field.has("numa_policy")
        else NUMA_POLICIES[0],
        mapped=field.has("mapped") and field.key("mapped").flag(),
        stream_tokens=(
            field.key("stream_tokens").count() if field.has("stream_tokens") else STREAM_TOKENS
        ),
    )
    try:
        check_workload(workload)
    except ReportedError as error:
        raise PlanError(f"not a plan: {error.cause}", remedy=error.remedies) from None
    return workload


def _prediction_json(prediction: Prediction | None) -> dict[str, Any] | None:
    if prediction is None:
        return None
    paces = {"decode": prediction.decode, "prompt": prediction.prompt}
    return {
        **{
            work: [
                {
                    "depth": pace.depth,
                    "tokens": pace.tokens,
                    "tokens_per_s": pace.tokens_per_s,
                    "seconds": dict(pace.seconds),
                }
                for pace in of
            ]
            for work, of in paces.items()
        },
        "error": prediction.error,
        "limit": prediction.limit,
        "source": prediction.source,
    }


def _prediction(field: _Field) -> Prediction | None:
    if field.value is None:
        return None
    return Prediction(
        decode=tuple(_pace(pace) for pace in field.key("decode").items()),
        prompt=tuple(_pace(pace) for pace in field.key("prompt").items()),
        error=field.key("error").number(),
        limit=field.key("limit").text(),
        source=field.key("source").text(),
    )


def _pace(field: _Field) -> Pace:
    seconds = field.key("seconds")
    return Pace(
        field.key("depth").count(),
        field.key("tokens").count(),
        field.key("tokens_per_s").number(),
        {part: seconds.key(part).number() for part in seconds.names()},
    )
