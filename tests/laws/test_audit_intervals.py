"""What holds of every audit: how rows are drawn, what an interval holds, and what more verdicts do to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.audit import estimate
from curate.audit.design import LEVELS, SHARES, allocated, drawn_order, ends_for, strata_of
from curate.audit.estimate import Cells, more_for, precision, rate, recall
from curate.engine.suspicion import cut_for
from curate.engine.suspicion.level import at_level, of_rate

SUSPICION = np.sort(np.random.default_rng(0).beta(0.3, 2.0, 3000))[::-1]


def cells(suspicion: np.ndarray, wrong: list[float], right: list[float], unsure: list[float] | None = None) -> Cells:
    strata = strata_of(suspicion)
    none = np.zeros(len(strata.sizes))
    return Cells(
        strata.sizes.astype(float), np.array(right, float), np.array(wrong, float),
        none if unsure is None else np.array(unsure, float), strata.shapes,
    )  # fmt: skip


@given(st.integers(1, 5000))
def test_strata_are_two_to_five_of_some_rows_each(rows: int) -> None:
    ends = ends_for(rows)
    sizes = np.diff((0, *ends))
    assert ends[-1] == rows
    assert (sizes > 0).all()
    assert len(ends) <= len(SHARES) + 1
    assert len(ends) >= 2 or rows < 32


@given(st.integers(2, 400), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_as_many_rows_are_drawn_as_asked_from_every_stratum(total: int, seed: int) -> None:
    suspicion = np.sort(np.random.default_rng(seed).random(500))[::-1]
    strata = strata_of(suspicion)
    present = strata.sizes
    first = allocated(strata.shapes, total, present, np.zeros(len(present), int))
    assert first.sum() == max(min(total, 500), min(len(present), 500))
    assert (first <= present).all()
    assert (first >= 1).all()
    more = allocated(strata.shapes, total + 50, present, first)  # what was drawn stays drawn
    assert (more >= 0).all()
    assert (first + more).sum() == min(total + 50, 500)


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_every_row_is_shown_and_some_twice_later(count: int, seed: int) -> None:
    shown = drawn_order([(row, row % 5) for row in range(count)], np.random.default_rng(seed))
    first = [row for row, _, again in shown if not again]
    assert sorted(first) == list(range(count))
    twice = [row for row, _, again in shown if again]
    assert len(twice) == len(set(twice)) == (round(0.1 * count) if count >= 20 else 0)
    places = {row: place for place, (row, _, again) in enumerate(shown) if not again}
    assert all(places[row] < place for place, (row, _, again) in enumerate(shown) if again)


def test_a_suspicion_of_another_level_draws_the_same_rows() -> None:
    strata = [strata_of(at_level(SUSPICION, share * 3000)) for share in (0.01, 0.5)]
    plans = [allocated(one.shapes, 100, one.sizes, np.zeros(5, int)) for one in strata]
    assert strata[0].ends == strata[1].ends
    assert np.abs(plans[0] - plans[1]).max() <= 2


@pytest.mark.parametrize("seed", range(20))
def test_an_estimate_lies_in_its_interval_and_bounds_in_order(seed: int) -> None:
    draw = np.random.default_rng(seed)
    looked = draw.integers(1, 20, 5)
    wrong = draw.binomial(looked, draw.random(5))
    unsure = draw.binomial(looked - wrong, 0.2)
    found = rate(cells(SUSPICION, wrong.tolist(), (looked - wrong - unsure).tolist(), unsure.tolist()))
    assert 0 <= found.low <= found.at_least <= found.value <= found.at_most <= found.high <= 1


def test_unsure_widens_and_does_not_narrow() -> None:
    sure = rate(cells(SUSPICION, [4, 3, 2, 1, 0], [1, 3, 8, 12, 12]))
    lost = rate(cells(SUSPICION, [4, 3, 2, 1, 0], [1, 3, 6, 10, 10], [0, 0, 2, 2, 2]))
    assert lost.low <= sure.low + 0.005
    assert lost.high > sure.high + 0.02


def test_no_wrong_label_found_is_a_lower_bound_of_none() -> None:
    found = rate(cells(SUSPICION, [0] * 5, [2, 6, 12, 15, 15]))
    assert found.low == found.at_least == 0
    assert found.at_most < 0.06


@pytest.mark.parametrize(("verdicts", "bound"), [(59, 0.05), (149, 0.02)])
def test_as_few_verdicts_as_the_gate_names_settle_it(verdicts: int, bound: float) -> None:
    strata = strata_of(SUSPICION)
    plan = allocated(strata.shapes, verdicts, strata.sizes, np.zeros(5, int))
    assert rate(cells(SUSPICION, [0] * 5, plan.tolist())).at_most <= bound


def test_every_row_looked_at_leaves_nothing_open() -> None:
    suspicion = SUSPICION[:200]
    sizes = strata_of(suspicion).sizes
    wrong = np.minimum(sizes, [3, 5, 4, 2, 0][: len(sizes)])
    found = rate(cells(suspicion, wrong.tolist(), (sizes - wrong).tolist()))
    assert found.value == pytest.approx(wrong.sum() / 200)
    assert found.width == 0


def test_more_verdicts_narrow_and_a_width_says_how_many() -> None:
    few = cells(SUSPICION, [2, 2, 2, 1, 0], [0, 3, 10, 14, 16])
    more = more_for(few, 0.06)
    assert more is not None
    then = rate(few.scaled((few.verdicts + more) / few.verdicts))
    assert then.width <= 0.0601
    assert more_for(few, 0.9) == 0
    unsure = cells(SUSPICION[:100], [1] * 5, [1] * 5, [3] * 5) if len(ends_for(100)) == 5 else None
    assert unsure is None or more_for(unsure, 0.01) is None


def test_a_suspicion_of_no_use_is_found_out() -> None:
    """Wrong labels everywhere alike: the estimate follows the verdicts, not the order."""
    found = rate(cells(SUSPICION, [1, 3, 8, 10, 12], [1, 4, 9, 11, 13]))
    assert found.value == pytest.approx(0.47, abs=0.04)


def test_precision_and_recall_of_flags_follow_the_verdicts() -> None:
    strata = strata_of(SUSPICION)
    rows = np.array([90, 210, 450, 750, 1500.0])
    found = Cells(rows, np.array([0, 2, 20, 25, 26.0]), np.array([8, 10, 2, 0, 0.0]), np.zeros(5), strata.shapes)
    flagged = np.array([True, True, False, False, False])
    told, caught = precision(found, flagged), recall(found, flagged)
    assert told.value == pytest.approx((90 + 175) / 300, abs=0.05)
    assert told.low <= told.value <= told.high
    assert 0.5 < caught.low < caught.value < caught.high <= 1


def test_the_draws_are_the_same_each_time() -> None:
    once = cells(SUSPICION, [2, 2, 2, 1, 0], [0, 3, 10, 14, 16])
    assert rate(once) == rate(once)
    assert estimate.DRAWS >= 10_000
    assert sorted(LEVELS) == list(LEVELS)


# The level that comes of it


@given(st.floats(0.001, 0.999))
@settings(max_examples=30)
def test_suspicion_sums_to_the_level_and_keeps_its_order(share: float) -> None:
    after = at_level(SUSPICION, share * len(SUSPICION))
    assert after.sum() == pytest.approx(share * len(SUSPICION), rel=1e-6)
    assert (np.diff(after) <= 0).all()


@given(st.integers(0, 3000))
def test_a_cut_flags_as_many_rows_as_are_wrong(count: int) -> None:
    assert (cut_for(SUSPICION, None, float(count), known=True) < SUSPICION).sum() == pytest.approx(count, abs=2)


def test_a_noise_rate_is_a_level_and_a_range_its_middle() -> None:
    one, between = of_rate((0.2, 0.2), 1000), of_rate((0.1, 0.3), 1000)
    assert (one.expected, one.low, one.high) == (200, 200, 200)
    assert (between.expected, between.low, between.high) == (pytest.approx(200), 100, pytest.approx(300))
