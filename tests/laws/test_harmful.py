"""What `harmful` means: the interval covers the harm that refits find, false discoveries stay rare, flips come true.

Softmax regression on scikit-learn's digits, refitted to its optimum without each row by a dense Newton method.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from refits import refitted
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtr, stdtrit
from sklearn.datasets import load_digits
from torch.nn import functional as F

from curate.engine.influence.causes import connected, find_causes
from curate.engine.influence.harmful import (
    EVEN_SHARES,
    HarmByGroup,
    at_chance,
    benjamini_hochberg,
    deal,
    harmful_rows,
    minimum_harm,
)
from curate.engine.influence.head import HeadInfluence
from curate.engine.influence.students_t import upper_quantile, upper_tail
from curate.engine.loss import SOFTMAX
from curate.engine.probe import fit_softmax

CLASSES, N, POOL, LEFT_OUT = 5, 200, 600, 40


@dataclass
class World:
    """A head, and the fall of every pool row's loss [LEFT_OUT POOL] when each of some rows is left out, by refits."""

    influence: HeadInfluence
    pool_x: torch.Tensor
    pool_y: torch.Tensor
    weights: torch.Tensor
    penalty: torch.Tensor
    rows: torch.Tensor
    true: np.ndarray

    @property
    def logits(self) -> torch.Tensor:
        return self.pool_x @ self.weights.T

    @property
    def rests(self) -> torch.Tensor:
        return SOFTMAX.residuals(self.logits, self.pool_y)


@pytest.fixture(scope="module")
def world() -> World:
    digits = load_digits(n_class=CLASSES)
    order = np.random.default_rng(3).permutation(len(digits.target))[: N + POOL]
    x = torch.tensor(digits.data[order] / 16)
    x = torch.cat([x * (8 / x.norm(dim=1, keepdim=True)), torch.ones(len(x), 1)], dim=1).double()
    y = torch.tensor(digits.target[order])
    wrong = np.random.default_rng(4).permutation(N)[: N // 10]
    y[wrong] = (y[wrong] + 1) % CLASSES
    penalty = torch.full((x.shape[1],), 0.05, dtype=torch.float64)
    penalty[-1] = 0
    head = fit_softmax(x[:N], y[:N], CLASSES, penalty, tolerance=1e-10)
    factorised = head.curvature(x[:N]).factorise()
    influence = HeadInfluence(factorised, y[:N], factorised.scores(head.logits(x[:N]), y[:N]))
    harm, _ = influence.harm(x[N:], SOFTMAX.residuals(head.logits(x[N:]), y[N:]))
    rows = harm.argsort(descending=True)[:: N // LEFT_OUT]  # from the most harmful to the most helpful
    before = F.cross_entropy(head.logits(x[N:]), y[N:], reduction="none")
    true = []
    for row in rows.tolist():
        rest = torch.arange(N) != row
        weights = refitted(x[:N][rest], y[:N][rest], penalty, head.weights)
        true.append((before - F.cross_entropy(x[N:] @ weights.T, y[N:], reduction="none")).numpy())
    return World(influence, x[N:], y[N:], head.weights, penalty, rows, np.stack(true))


def measured(world: World, drawn: torch.Tensor, rows: torch.Tensor, seed: int) -> tuple[torch.Tensor, HarmByGroup]:
    """Harm of all training rows on the drawn evaluation rows, and of ``rows`` on each group of them."""
    x, rests = world.pool_x[drawn], world.rests[drawn]
    groups = deal(len(drawn), 64, seed)
    return world.influence.harm(x, rests)[0], world.influence.harm_by_group(x, rests, groups, rows)


def test_the_interval_covers_the_harm_of_refits(world: World) -> None:
    """Over the choice of 250 evaluation rows: the harm on all that could have been chosen, as refits find it."""
    population, covered = world.true.mean(1), []
    for seed in range(60):
        drawn = torch.from_numpy(np.random.default_rng(seed).integers(0, POOL, 250))
        harm, by_group = measured(world, drawn, world.rows, seed)
        # Every row passes the test here (p-values aside): the interval is asked for each.
        low, high = intervals(harm, by_group)
        covered.append((low <= population) & (population <= high))
    assert 0.90 < np.mean(covered) < 0.99


def intervals(harm: torch.Tensor, by_group: HarmByGroup) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of all rows, whether harmful or not: their harms are shifted far above zero and back."""
    shift = 1.0
    found = harmful_rows(harm + shift, HarmByGroup(by_group.rows, by_group.values + shift), 0.0)
    place = {row: number for number, row in enumerate(found.rows.tolist())}
    order = [place[row] for row in by_group.rows.tolist()]
    return found.low[order] - shift, found.high[order] - shift


def test_harmful_rows_are_harmful_by_refits(world: World) -> None:
    harm, by_group = measured(world, torch.arange(POOL), world.rows, 0)
    found = harmful_rows(harm, by_group, 0.0)
    assert len(found.rows) >= 3
    assert (np.diff(harm[found.rows].numpy()) <= 0).all()
    population = dict(zip(world.rows.tolist(), world.true.mean(1), strict=True))
    assert all(population[row] > 0 for row in found.rows.tolist())
    assert (found.low > 0).all()


def test_a_row_below_the_minimum_is_never_harmful(world: World) -> None:
    harm, _ = measured(world, torch.arange(POOL), world.rows, 0)
    least = float(harm.sort(descending=True).values[4])
    _, by_group = measured(world, torch.arange(POOL), (harm >= least).nonzero()[:, 0], 0)
    found = harmful_rows(harm, by_group, least)
    assert found.tested == 5
    assert len(found.rows) <= 5
    assert (harm[found.rows] >= least).all()


def test_the_minimum_is_twice_an_even_share_of_the_summed_loss() -> None:
    # 100 rows of mean loss 0.5, 1,000 training rows: each carries 0.05 nats of the sum, 0.0005 of the mean.
    assert EVEN_SHARES == 2
    assert minimum_harm(50.0, 1_000, 100) == pytest.approx(0.001)
    # The same fall of the sum, asked of ten of these rows only.
    assert minimum_harm(50.0, 1_000, 10) == pytest.approx(0.01)


def test_rows_without_harm_are_rarely_called_harmful() -> None:
    """The share of wrong discoveries among 2,000 rows, 100 of them harmful, stays near the rate over many draws."""
    rates = []
    for seed in range(60):
        draw = torch.Generator().manual_seed(seed)
        values = torch.randn(2_000, 64, generator=draw)
        values[:100] += 0.75
        found = harmful_rows(values.mean(1), HarmByGroup(torch.arange(2_000), values), -1.0)
        assert len(found.rows) > 80
        rates.append(float((found.rows >= 100).mean()))
    assert 0.02 < np.mean(rates) < 0.07


def test_benjamini_hochberg_is_its_definition() -> None:
    p = np.array([0.04, 0.001, 0.02, 0.5, 0.013])
    # k/m * 0.05: 0.01 0.02 0.03 0.04 0.05; sorted 0.001 0.013 0.02 0.04 0.5: the fourth passes, and all before it
    assert benjamini_hochberg(p, 5, 0.05).tolist() == [True, True, True, False, True]
    assert benjamini_hochberg(p, 50, 0.05).tolist() == [False, True, False, False, False]
    assert not benjamini_hochberg(np.zeros(0), 5, 0.05).any()


@pytest.mark.parametrize("freedom", [1, 2, 7, 31, 63])
def test_students_t_is_scipys(freedom: int) -> None:
    t = np.array([-40.0, -1.5, -0.01, 0.0, 0.3, 1.0, 4.0, 12.0, 60.0])
    np.testing.assert_allclose(upper_tail(t, freedom), stdtr(freedom, -t), rtol=1e-11)
    assert upper_quantile(0.025, freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=1e-11)


@pytest.mark.parametrize("pairs", [0, 1, 20, 60, 400])
def test_what_pairs_connect_is_what_scipy_says(pairs: int) -> None:
    joined = np.random.default_rng(pairs).integers(0, 80, (pairs, 2))
    found = connected(joined, 80)
    parts = connected_components(coo_array((np.ones(pairs), tuple(joined.T)), shape=(80, 80)), directed=False)[1]
    for part in np.unique(parts):
        assert set(found[parts == part]) == {np.flatnonzero(parts == part)[0]}
    np.testing.assert_array_equal(connected(np.array([(k + 1, k) for k in range(79)])[::-1], 80), np.zeros(80))


def test_groups_are_even_and_random() -> None:
    groups = deal(130, 64, 0)
    counts = torch.bincount(groups)
    assert (int(counts.min()), int(counts.max()), len(counts)) == (2, 3, 64)
    assert len(torch.bincount(deal(41, 64, 0))) == 20
    assert not torch.equal(groups, deal(130, 64, 1))


def test_predicted_flips_are_those_of_refits(world: World) -> None:
    """Predictions that turn right and wrong without the worst rows together, and without each of them."""
    harm, _ = world.influence.harm(world.pool_x, world.rests)
    worst = harm.argsort(descending=True)[:8]
    before = world.logits.argmax(1) == world.pool_y

    def refit_without(rows: torch.Tensor) -> np.ndarray:
        curvature = world.influence.head.curvature
        rest = torch.ones(N, dtype=torch.bool)
        rest[rows] = False
        weights = refitted(curvature.x[rest], world.influence.labels[rest], world.penalty, world.weights)
        after = (world.pool_x @ weights.T).argmax(1) == world.pool_y
        return np.array([int((after & ~before).sum()), int((before & ~after).sum())])

    shifts = world.influence.shifts(worst)
    assert torch.allclose(shifts.sum(0, keepdim=True), world.influence.shifts_together([worst]), atol=1e-12)
    moved = torch.cat([shifts, shifts.sum(0, keepdim=True)])
    flips = world.influence.flips(moved, world.pool_x, world.logits, world.pool_y).numpy()
    true = np.stack([*(refit_without(row[None]) for row in worst), refit_without(worst)])
    assert true[-1].sum() >= 5
    assert np.abs(flips - true).max() <= 2
    assert np.abs(flips - true).sum() <= 0.3 * true.sum()


def test_harmful_rows_of_one_neighbourhood_and_one_pair_of_labels_have_one_cause() -> None:
    given = np.array([0, 0, 0, 0, 1, 1, 0, 0])
    suggested = np.array([1, 1, 1, 1, 0, 0, 2, 2])
    rows = np.array([6, 0, 1, 2, 4, 5])  # 3 and 7 are not harmful
    near = np.array([
        [0, 7],  # 6: near 0, of another pair; 7 is not harmful
        [1, 3],  # 0 - 1
        [3, 7],
        [1, 3],  # 2 - 1: so 0, 1, 2
        [0, 3],
        [4, 0],  # 5 - 4, and 0 is of another pair
    ])  # fmt: skip
    causes = find_causes(rows, near, given, suggested)
    assert [sorted(cause.rows.tolist()) for cause in causes] == [[0, 1, 2], [4, 5]]
    assert [(cause.given, cause.suggested) for cause in causes] == [(0, 1), (1, 0)]
    assert find_causes(rows[:0], near[:0], given, suggested) == []


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_a_head_at_chance_is_one_that_knows_no_more_than_the_share_of_a_class(share: float) -> None:
    """``share`` of the rows is predicted right, the others at random, or always as the largest class."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [700, 100, 100, 100])
    for guess in (draw.integers(0, 4, 1_000), np.zeros(1_000, dtype=int)):
        predicted = np.where(draw.random(1_000) < share, labels, guess)
        assert at_chance(np.eye(4)[predicted], labels) == (share < 0.1)
