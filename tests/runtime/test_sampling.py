import pytest
import torch

from hybrid.errors import UnsupportedModel, UsageError
from hybrid.runtime.sampling import Sampler, SamplingOptions, _greatest

LOGITS = torch.log(torch.tensor([0.05, 0.5, 0.15, 0.3]))
OPEN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def drawn(draws: int = 4000, **fields) -> torch.Tensor:
    """Share of each id over many draws."""
    sampler = Sampler(SamplingOptions(**{**OPEN, "seed": 1, **fields}))
    ids = torch.tensor([sampler.sample(LOGITS) for _ in range(draws)])
    return torch.bincount(ids, minlength=4) / draws


def test_temperature_zero_is_greedy():
    assert Sampler(SamplingOptions(temperature=0)).sample(LOGITS) == 1


def test_without_cuts_the_draws_follow_the_probabilities():
    assert torch.allclose(drawn(), LOGITS.exp(), atol=0.03)


def test_top_k_keeps_the_best_two_in_proportion():
    assert torch.allclose(drawn(top_k=2), torch.tensor([0, 0.625, 0, 0.375]), atol=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    assert (drawn(top_p=0.7) > 0).tolist() == [False, True, False, True]
    assert (drawn(top_p=0.85) > 0).tolist() == [False, True, True, True]


def test_min_p_drops_what_is_far_below_the_best():
    assert (drawn(min_p=0.2) > 0).tolist() == [False, True, True, True]


def test_a_lower_temperature_sharpens():
    assert drawn(temperature=0.5)[1] > drawn()[1] + 0.1


def test_the_seed_repeats_a_run_and_no_seed_tells_its_own():
    def ids(seed: int | None) -> tuple[int, list[int]]:
        sampler = Sampler(SamplingOptions(**OPEN, seed=seed))
        return sampler.seed, [sampler.sample(LOGITS) for _ in range(50)]

    seed, first = ids(None)
    assert ids(seed)[1] == first
    assert ids(7)[1] == ids(7)[1] != ids(8)[1]


@pytest.mark.parametrize(
    "field", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"min_p": 2}]
)
def test_values_out_of_range_are_refused_with_the_ranges(field):
    with pytest.raises(UsageError) as error:
        SamplingOptions(**field)
    assert "top-p <= 1" in str(error.value)


@pytest.mark.parametrize("temperature", [1e-40, 1e-60, 5e-324])
def test_the_smallest_temperatures_take_the_best_token(temperature):
    high = LOGITS + 1e4
    for logits in (LOGITS, high):
        sampler = Sampler(SamplingOptions(temperature=temperature, seed=1))
        assert {sampler.sample(logits) for _ in range(8)} == {1}


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_refused(temperature, bad):
    logits = LOGITS.clone()
    logits[2] = bad
    with pytest.raises(UnsupportedModel, match="not finite"):
        Sampler(SamplingOptions(temperature=temperature)).sample(logits)


def test_a_fresh_seed_can_be_given_again():
    for _ in range(8):
        seed = Sampler(SamplingOptions()).seed
        assert Sampler(SamplingOptions(seed=seed)).seed == seed


@pytest.mark.parametrize("length", [40, 2559, 2600, 4096, 10_007])
@pytest.mark.parametrize("top_k", [1, 7, 40])
def test_the_greatest_logits_of_long_rows_are_those_of_a_full_sort(length, top_k):
    logits = torch.randn(length, generator=torch.Generator().manual_seed(length)).round(decimals=1)
    logits[::5] = logits.max()  # many equals
    kept, ids = _greatest(logits, top_k)
    assert kept.tolist() == logits.sort(descending=True).values[:top_k].tolist()
    assert logits[ids].tolist() == kept.tolist()
    assert len(set(ids.tolist())) == top_k


def test_greedy_takes_the_best_that_is_known_and_looks_itself_where_it_is_not_finite():
    sampler = Sampler(SamplingOptions(temperature=0))
    assert sampler.sample(LOGITS, (3, 1.5)) == 3
    assert sampler.sample(LOGITS, (3, float("nan"))) == 1
    drawing = Sampler(SamplingOptions(**{**OPEN, "top_k": 1}))
    assert drawing.sample(LOGITS, (3, 1.5)) == 1
