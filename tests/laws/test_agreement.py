"""The statistics of `curate verify` against SciPy's, and their intervals against many samples."""

import numpy as np
import pytest
from scipy.stats import kendalltau, linregress, pearsonr, spearmanr

from curate.experiments.verify.agreement import Agreement, OverGroups, chance_bound, rank_correlation


def pairs(seed: int, m: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal(m)
    return x, 0.5 * x + noise * random.standard_normal(m)


@pytest.mark.parametrize("ties", [False, True])
def test_each_statistic_is_the_textbook_one(ties: bool) -> None:
    x, y = pairs(0, 60)
    if ties:
        x, y = x.round(), y.round()
    found = Agreement.of(x, y, seed=0)
    assert found is not None
    assert found.pearson.value == pytest.approx(pearsonr(x, y)[0])
    assert found.spearman.value == pytest.approx(spearmanr(x, y)[0])
    assert found.kendall.value == pytest.approx(kendalltau(x, y)[0])
    assert found.slope.value == pytest.approx(linregress(x, y).slope)
    assert found.signs.value == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    assert rank_correlation(x, y) == pytest.approx(found.spearman.value)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """The slope of the population is one half."""
    found = [Agreement.of(*pairs(seed, 80), seed=seed) for seed in range(100)]
    held = sum(one is not None and one.slope.low <= 0.5 <= one.slope.high for one in found)
    assert 86 <= held <= 99


def test_chance_is_what_permutations_reach() -> None:
    bound = chance_bound(*pairs(0, 100), seed=0)
    assert bound is not None
    assert bound == pytest.approx(1.96 / np.sqrt(99), rel=0.15)


def test_too_few_or_constant_numbers_say_nothing() -> None:
    x, y = pairs(0, 4)
    assert Agreement.of(x, y, 0) is None
    assert Agreement.of(np.ones(20), np.arange(20.0), 0) is None
    assert chance_bound(np.arange(20.0), np.ones(20), 0) is None


def test_intervals_are_the_same_each_time() -> None:
    assert Agreement.of(*pairs(1, 30), seed=5) == Agreement.of(*pairs(1, 30), seed=5)


def test_groups_are_judged_target_by_target_and_over_groups() -> None:
    predicted, actual = (np.stack(part, axis=1) for part in zip(*(pairs(seed, 50) for seed in range(3)), strict=True))
    still = np.ones((50, 1))
    found = OverGroups.of(np.hstack([predicted, still]), np.hstack([actual, still]), seed=0)
    each = [spearmanr(predicted[:, place], actual[:, place])[0] for place in range(3)]
    assert found.by_target == [*map(pytest.approx, each), None]
    assert found.score is not None
    assert found.score.value == pytest.approx(np.mean(each))
    assert found.score.low < found.score.value < found.score.high
    assert OverGroups.of(still, still, seed=0).score is None
