import pytest

from placement.machines.calibration import KINDS, LAST_RUNS, Calibration


def taught(*ratios: float) -> Calibration:
    """After runs that took `ratio` times as long as computed."""
    known = Calibration()
    for ratio in ratios:
        known = known.observed({"decode_cpu": ratio})
    return known


def test_without_runs_nothing_is_corrected() -> None:
    assert {Calibration().factor(kind) for kind in KINDS} == {1.0}
    assert Calibration().error("decode_cpu", 0.3) == 0.3


def test_one_run_moves_the_factor_half_of_its_way() -> None:
    assert taught(1.2).factor("decode_cpu") == pytest.approx(1.1)
    assert taught(1.2).factor("decode_gpu") == 1.0


def test_runs_that_agree_are_believed() -> None:
    assert taught(1.2, 1.2, 1.2).factor("decode_cpu") == pytest.approx(1.2)


@pytest.mark.parametrize("outlier", [0.25, 0.5, 3.0, 4.9])
def test_one_run_that_was_disturbed_changes_little(outlier: float) -> None:
    assert taught(1.1, 1.12, outlier, 1.09).factor("decode_cpu") == pytest.approx(1.1, abs=0.03)


@pytest.mark.parametrize("ratio", [0.0, -3.0, 100.0, float("nan"), float("inf")])
def test_what_cannot_be_the_models_error_teaches_nothing(ratio: float) -> None:
    known = taught(1.2)
    assert known.observed({"decode_cpu": ratio, "a kind of later versions": 1.0}) == known


def test_the_factor_stays_within_its_bounds() -> None:
    assert taught(*[4.0] * 5).factor("decode_cpu") == 2.0
    assert taught(*[0.3] * 5).factor("decode_cpu") == 0.5


def test_old_runs_are_forgotten() -> None:
    known = taught(*[1.5] * 8, *[0.9] * 8)
    assert len(known.ratios["decode_cpu"]) == LAST_RUNS
    assert known.factor("decode_cpu") == pytest.approx(0.9)


def test_runs_that_agree_make_predictions_surer_and_others_less() -> None:
    assert taught(1.2, 1.21, 1.19).error("decode_cpu", 0.4) == 0.05
    assert taught(0.9, 1.1, 1.3).error("decode_cpu", 0.4) == pytest.approx(2 * (1 - 0.9 / 1.05))
    assert taught(0.5, 1.0, 2.0).error("decode_cpu", 0.4) == pytest.approx(1.0)
    assert taught(1.2, 1.2).error("decode_cpu", 0.4) == 0.4


def test_a_profile_with_nonsense_in_it_is_passed_over() -> None:
    known = Calibration({"decode_cpu": (float("nan"), -1.0, 0.0, 1e9)})
    assert known.factor("decode_cpu") == 1.0
