"""Suspicion after verdicts: nearer to the truth, in the same order, and untouched where little was said."""

import numpy as np
import pytest
from scipy.special import expit, logit

from curate.suspicion.verdicts import FEWEST, RIGHT, UNKNOWN, WRONG, fit


def drawn(shift: float, slope: float, looked_at: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Suspicion of 5,000 rows, their true probabilities, and verdicts on the most suspect ones."""
    draw = np.random.default_rng(seed)
    suspicion = expit(draw.normal(-2.5, 2, 5000))
    true = expit(shift + slope * logit(suspicion))
    words = np.where(draw.uniform(size=5000) < true, WRONG, RIGHT)
    words[np.argsort(-suspicion)[looked_at:]] = UNKNOWN
    return suspicion, true, words


def errors(shift: float, slope: float) -> tuple[float, float]:
    """Mean distance of flagged rows' suspicion from the truth, before and after: over 20 draws of 300 verdicts."""
    before, after = [], []
    for seed in range(20):
        suspicion, true, words = drawn(shift, slope, 300, seed)
        found = fit(suspicion, words)
        assert found is not None
        assert (found.wrong, found.right) == ((words == WRONG).sum(), (words == RIGHT).sum())
        flagged = suspicion > 0.5
        before.append(np.abs(suspicion - true)[flagged].mean())
        after.append(np.abs(found.of(suspicion) - true)[flagged].mean())
    return float(np.mean(before)), float(np.mean(after))


@pytest.mark.parametrize(("shift", "slope"), [(-1.5, 1.0), (1.0, 1.0), (0.0, 0.4), (-2.0, 1.5)])
def test_verdicts_bring_it_near_the_truth(shift: float, slope: float) -> None:
    before, after = errors(shift, slope)
    assert after < 0.5 * before


def test_what_was_right_stays_nearly_as_it_was() -> None:
    _, after = errors(0.0, 1.0)
    assert after < 0.05


def test_the_order_stays() -> None:
    suspicion, _, words = drawn(-1.5, 0.5, 100, 0)
    found = fit(suspicion, words)
    assert found is not None
    assert found.slope > 0
    assert (np.argsort(found.of(suspicion), kind="stable") == np.argsort(suspicion, kind="stable")).all()


def test_few_verdicts_change_nothing() -> None:
    suspicion, _, words = drawn(-1.5, 1.0, FEWEST - 1, 0)
    assert fit(suspicion, words) is None
    assert fit(suspicion, drawn(-1.5, 1.0, FEWEST, 0)[2]) is not None


@pytest.mark.parametrize("word", [RIGHT, WRONG])
def test_verdicts_of_one_kind_and_certain_rows_stay_finite(word: int) -> None:
    suspicion = np.linspace(0, 1, 100)
    found = fit(suspicion, np.full(100, word))
    assert found is not None
    after = found.of(suspicion)
    assert np.isfinite(after).all()
    assert ((after >= 0) & (after <= 1)).all()
    assert (after.mean() > suspicion.mean()) == (word == WRONG)
