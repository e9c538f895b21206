"""The noise model, its fusion of experts and the panel: against direct sums, against truth that was planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.suspicion import STEP, Signals, balanced_cut, cut_for, judged
from curate.suspicion.detectors import spoken
from curate.suspicion.fusion import Fusion, fit_fusion, logarithmic_mean
from curate.suspicion.noise_model import NoiseModel, fit_noise_model
from curate.suspicion.panel import EARLY, LAST, panel_for, panel_on_unseen, pooled

CLASSES = 5
LOOKALIKE = np.array([1, 0, 3, 2, 0])


def world(n: int, noise: float, kind: str, seed: int, clearness: float = 4.0) -> tuple[np.ndarray, ...]:
    """Class probabilities that are right, the true classes drawn from them, and labels with noise."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(n, CLASSES)) * clearness
    q = np.exp(logits - logits.max(1, keepdims=True))
    q /= q.sum(1, keepdims=True)
    true = np.array([draw.choice(CLASSES, p=row) for row in q])
    wrong = draw.random(n) < noise
    other = (true + draw.integers(1, CLASSES, n)) % CLASSES if kind == "uniform" else LOOKALIKE[true]
    return q, true, np.where(wrong, other, true)


def tempered(q: np.ndarray, power: float) -> np.ndarray:
    powers = q**power
    return powers / powers.sum(1, keepdims=True)


def suspicion(fusion: Fusion, experts: list[np.ndarray], given: np.ndarray) -> np.ndarray:
    return 1 - fusion.posterior(experts, given)[np.arange(len(given)), given]


def test_the_posterior_is_bayes_rule() -> None:
    q, transition = np.array([[0.6, 0.4]]), np.array([[0.9, 0.1], [0.2, 0.8]])
    posterior, likelihood = NoiseModel(transition).explain(q, np.array([1]))
    joint = np.array([0.6 * 0.1, 0.4 * 0.8])
    np.testing.assert_allclose(posterior[0], joint / joint.sum())
    assert likelihood == pytest.approx(np.log(joint.sum()))


def test_em_never_loses_likelihood() -> None:
    q, _, given = world(500, 0.2, "uniform", 0)
    prior = np.full((CLASSES, CLASSES), 1 / (CLASSES - 1))
    np.fill_diagonal(prior, 9.0)

    def objective(model: NoiseModel) -> float:
        return len(q) * model.explain(q, given)[1] + float((prior * np.log(model.transition)).sum())

    values = [objective(fit_noise_model(q, given, steps=steps, tolerance=0.0)) for steps in range(1, 12)]
    assert np.all(np.diff(values) > -1e-9)


@pytest.mark.parametrize("kind", ["uniform", "lookalike"])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_the_transition_that_was_planted_is_found(kind: str, noise: float) -> None:
    q, true, given = world(4_000, noise, kind, 1)
    counts = np.zeros((CLASSES, CLASSES))
    np.add.at(counts, (true, given), 1)
    planted = counts / counts.sum(1, keepdims=True)
    assert np.abs(fit_noise_model(q, given).transition - planted).max() < 0.05


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_suspicion_is_calibrated_whatever_the_temperature_of_the_experts(power: float) -> None:
    """A timid expert is sharpened: among rows with suspicion about p a share p is wrong."""
    q, true, given = world(6_000, 0.15, "uniform", 2)
    experts = [tempered(q, power)]
    fusion = fit_fusion(experts, given)
    assert fusion.weights[0] == pytest.approx(1 / power, rel=0.15)
    value, wrong = suspicion(fusion, experts, given), given != true
    assert value.sum() == pytest.approx(wrong.sum(), rel=0.1)
    for low, high in [(0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)]:
        rows = (value >= low) & (value < high)
        if rows.sum() >= 50:
            assert abs(wrong[rows].mean() - value[rows].mean()) < 0.1


def test_an_expert_that_knows_nothing_gets_no_weight() -> None:
    q, _, given = world(3_000, 0.1, "uniform", 3)
    noise = np.random.default_rng(0).dirichlet(np.ones(CLASSES), len(q))
    weights = fit_fusion([q, noise], given).weights
    assert weights[1] < 0.1 * weights[0]


def test_the_order_of_experts_and_rows_does_not_matter() -> None:
    q, _, given = world(400, 0.1, "uniform", 4)
    experts = [q, tempered(q, 0.5)]
    fusion = fit_fusion(experts, given)
    turned = fit_fusion(experts[::-1], given)
    np.testing.assert_allclose(turned.weights[::-1], fusion.weights, atol=1e-3)
    rows = np.random.default_rng(0).permutation(len(given))
    mixed = fit_fusion([expert[rows] for expert in experts], given[rows])
    np.testing.assert_allclose(mixed.weights, fusion.weights, atol=1e-6)


def test_few_rows_stay_near_the_prior() -> None:
    """Separable by chance: twenty rows must not make an expert infallible."""
    q = np.eye(3)[np.arange(20) % 3] * 0.6 + 0.4 / 3
    weights = fit_fusion([q], np.arange(20) % 3).weights
    assert weights[0] < 4


class TestPanel:
    def test_last_features_that_know_the_labels_by_heart_are_not_asked(self) -> None:
        q, true, given = world(2_000, 0.1, "uniform", 5)
        parrot = np.eye(CLASSES)[given] * 0.98 + 0.02 / CLASSES
        experts = {LAST: [parrot, parrot], EARLY: [q, q]}
        panel = panel_for(experts, given, own_head=True, seed=0)
        assert panel.by_heart
        assert panel.confirmed is not None
        assert panel.confirmed < 0.1
        found = panel.judgement(experts, given)
        assert found.suspicion.sum() == pytest.approx((given != true).sum(), rel=0.2)

    def test_honest_last_features_are_pooled_with_the_early_ones(self) -> None:
        q, _, given = world(2_000, 0.1, "uniform", 6)
        softer = tempered(q, 0.6)
        panel = panel_for({LAST: [q, q], EARLY: [softer, softer]}, given, own_head=True, seed=0)
        assert not panel.by_heart
        assert [judge.depths for judge in panel.judges] == [(EARLY,), (EARLY, LAST)]

    def test_an_extractor_that_did_not_learn_these_labels_is_asked_alone(self) -> None:
        q, _, given = world(2_000, 0.1, "uniform", 7)
        softer = tempered(q, 0.3)
        panel = panel_for({LAST: [q, q], EARLY: [softer, softer]}, given, own_head=False, seed=0)
        assert [judge.depths for judge in panel.judges] == [(LAST,)]

    def test_without_early_features_the_last_ones_answer(self) -> None:
        q, _, given = world(300, 0.1, "uniform", 8)
        panel = panel_for({LAST: [q, q]}, given, own_head=True, seed=0)
        assert panel.confirmed is None
        assert [judge.depths for judge in panel.judges] == [(LAST,)]

    def test_unseen_rows_weigh_every_depth_by_their_own_labels(self) -> None:
        q, true, given = world(2_000, 0.1, "uniform", 9)
        nothing = np.full_like(q, 1 / CLASSES)
        experts = {LAST: [q, q], EARLY: [nothing, nothing]}
        panel = panel_on_unseen(experts, given, seed=0)
        found = panel.judgement(experts, given)
        assert found.suspicion.sum() == pytest.approx((given != true).sum(), rel=0.2)


def test_pooling_is_the_logarithmic_mean() -> None:
    a, b = np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]])
    expected = np.sqrt(a * b) / np.sqrt(a * b).sum()
    np.testing.assert_allclose(logarithmic_mean([a, b]), expected)
    np.testing.assert_allclose(pooled({EARLY: [a], LAST: [b]}, (EARLY, LAST))[0], expected)


def test_the_suggested_label_is_the_best_other_class() -> None:
    posterior = np.array([[0.2, 0.7, 0.1], [0.9, 0.04, 0.06]])
    found = judged(posterior, posterior, np.array([0, 0]))
    assert found.suggested.tolist() == [1, 2]
    np.testing.assert_allclose(found.suspicion, [0.8, 0.1])
    np.testing.assert_allclose(found.suggested_probability, [0.7, 0.06])


class TestCut:
    def test_about_one_half_where_wrong_and_right_are_told_apart(self) -> None:
        assert cut_for(np.array([0.99] * 10 + [0.001] * 90), None) == 0.5

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.2, 0.5))
    def test_no_other_cut_in_its_range_has_a_better_expected_f1(self, values: list[float], other: float) -> None:
        suspicion = np.array(values)
        total = suspicion.sum()

        def expected(cut: float) -> float:
            flagged = suspicion > cut
            return 2 * suspicion[flagged].sum() / max(flagged.sum() + total, 1e-300)

        cut = balanced_cut(suspicion)
        assert 0.2 <= cut <= 0.5
        # The exact optimum lies up to one step below: what is lost there is the rows between.
        between = ((suspicion > cut - STEP) & (suspicion <= cut)).sum()
        assert expected(cut) >= expected(other) - 2 * STEP * between / max(total, 1e-300) - 1e-9

    def test_its_flags_have_a_better_f1_than_a_cut_at_one_half_where_classes_overlap(self) -> None:
        draw = np.random.default_rng(0)
        suspicion = draw.beta(0.4, 3.0, 5_000)  # calibrated: a row is wrong with this probability
        wrong = draw.random(5_000) < suspicion

        def f1(flagged: np.ndarray) -> float:
            return 2 * float((flagged & wrong).sum() / (flagged.sum() + wrong.sum()))

        cut = balanced_cut(suspicion)
        assert 0.2 <= cut < 0.35
        assert f1(suspicion > cut) > f1(suspicion > 0.5) + 0.1

    def test_the_mean_of_the_flagged_is_the_precision_asked_for(self) -> None:
        value = np.array([0.99, 0.9, 0.8, 0.6, 0.3, 0.1])
        cut = cut_for(value, 0.85)
        assert (value > cut).sum() == 3  # means 0.99, 0.945, 0.897, 0.8225
        assert value[value > cut].mean() >= 0.85

    def test_nothing_is_flagged_where_no_row_is_suspect_enough(self) -> None:
        assert not (np.array([0.5, 0.4]) > cut_for(np.array([0.5, 0.4]), 0.9)).any()

    def test_ties_stay_together(self) -> None:
        value = np.array([0.9, 0.9, 0.9])
        assert (value > cut_for(value, 0.9)).all()

    def test_all_rows_where_all_may_be(self) -> None:
        value = np.array([0.9, 0.8])
        assert (value > cut_for(value, 0.5)).all()


def test_the_detectors_that_spoke_are_those_that_rank_the_row_first() -> None:
    q = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    votes = np.array([[1.0, 9.0], [9.0, 1.0], [8.0, 2.0], [7.0, 3.0]])
    signals = Signals(np.zeros(4, dtype=int), None, None, None, q, np.zeros(4), votes, None, None)
    told = spoken(signals, 1)
    assert told[2] == "leave_one_out_loss,leave_one_out_margin"
    assert "neighbours" in told[0].split(",")
    assert told[1] == told[3] == ""
