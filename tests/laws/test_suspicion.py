"""The noise model, its fusion of experts and the panel: against direct sums, against truth that was planted."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import curate.engine.suspicion.fusion
from curate.engine.suspicion import Signals, at_least, cut_for, judged, least_of_copies
from curate.engine.suspicion.detectors import spoken
from curate.engine.suspicion.fusion import Fusion, _cost, _logs, fit_fusion, logarithmic_mean
from curate.engine.suspicion.level import at_level, confident_joint, count_wrong
from curate.engine.suspicion.noise_model import NoiseModel, changes_alike, fit_noise_model
from curate.engine.suspicion.panel import EARLY, INPUTS, LAST, panel_for, panel_on_unseen
from curate.stages.diagnosis import matched

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


def test_a_step_of_em_counts_posteriors_by_given_label() -> None:
    q, _, given = world(300, 0.2, "uniform", 2)
    given[given == 3] = 1  # a class that no row is given
    counts = np.full((CLASSES, CLASSES), 1 / (CLASSES - 1))
    np.fill_diagonal(counts, 9.0)
    posterior = NoiseModel(counts / counts.sum(1, keepdims=True)).posterior(q, given)
    np.add.at(counts.T, given, posterior)
    found = fit_noise_model(q, given, steps=1).transition
    np.testing.assert_allclose(found, counts / counts.sum(1, keepdims=True), rtol=1e-12)


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
    np.testing.assert_allclose(turned.weights[::-1], fusion.weights, atol=1e-6)
    rows = np.random.default_rng(0).permutation(len(given))
    mixed = fit_fusion([expert[rows] for expert in experts], given[rows])
    np.testing.assert_allclose(mixed.weights, fusion.weights, atol=1e-6)


def blurred(q: np.ndarray, seed: int, count: int) -> list[np.ndarray]:
    """Experts that are hard to tell apart, too sure or not sure enough: their weights lie in a flat valley."""
    draw = np.random.default_rng(seed)
    said = [np.exp((np.log(q + 1e-3) + 0.5 * draw.normal(size=q.shape)) * 2 ** draw.normal()) for _ in range(count)]
    return [expert / expert.sum(1, keepdims=True) for expert in said]


def test_slope_and_curvature_of_what_labels_cost_are_those_of_its_differences() -> None:
    q, _, given = world(200, 0.1, "uniform", 5)
    logs, noise = _logs(blurred(q, 5, 3)), changes_alike(CLASSES, 0.1)
    at, small = np.array([0.4, -0.8, 0.1, 0.5]), 1e-5
    ahead, behind = ([_cost(at + side * step, logs, given, noise) for step in np.eye(4)] for side in (small, -small))
    _, slope, curvature, _, across = _cost(at, logs, given, noise)
    for found, of in ((slope, lambda cost: cost[0]), (curvature, lambda cost: cost[1]), (across, lambda c: c[3].sum())):
        differences = [(of(one) - of(other)) / (2 * small) for one, other in zip(ahead, behind, strict=True)]
        np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-5)


def test_what_labels_cost_does_not_depend_on_how_many_rows_are_gone_through_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    q, _, given = world(200, 0.1, "uniform", 5)
    logs, at, noise = _logs(blurred(q, 5, 3)), np.array([0.4, -0.8, 0.1, 0.5]), changes_alike(CLASSES, 0.1)
    whole = _cost(at, logs, given, noise)
    monkeypatch.setattr(curate.engine.suspicion.fusion, "BLOCK", 7 * CLASSES)
    for found, expected in zip(_cost(at, logs, given, noise), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_of_many_classes_a_sample_of_the_rows_tells_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    q, true, given = world(6_000, 0.1, "uniform", 4, 1.0)
    experts = blurred(q, 4, 3)
    whole = fit_fusion(experts, given)
    monkeypatch.setattr(curate.engine.suspicion.fusion, "MOST_NUMBERS", 2_500 * CLASSES)
    some = fit_fusion(experts, given)
    assert (whole.rows, some.rows) == (6_000, 2_500)
    one, other = suspicion(whole, experts, given), suspicion(some, experts, given)
    wrong = true != given
    assert average_precision_score(wrong, other) == pytest.approx(average_precision_score(wrong, one), abs=0.01)
    assert np.abs(one - other).mean() < 0.02


@pytest.mark.parametrize("seed", range(1, 5))
def test_digits_that_experts_do_not_have_do_not_decide(seed: int) -> None:
    """Float32 has seven of them: several processes add up in another order than one."""
    q, _, given = world(2_000, 0.05, "lookalike", seed, 1.0)
    experts = blurred(q, seed, 7)
    draw = np.random.default_rng(seed)
    nudged = [expert * (1 + 1e-7 * draw.normal(size=expert.shape)) for expert in experts]
    before, after = (suspicion(fit_fusion(said, given), said, given) for said in (experts, nudged))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-7)


def test_few_rows_stay_near_the_prior() -> None:
    """Separable by chance: twenty rows must not make an expert infallible."""
    q = np.eye(3)[np.arange(20) % 3] * 0.6 + 0.4 / 3
    weights = fit_fusion([q], np.arange(20) % 3).weights
    assert weights[0] < 4


def overlapping(n: int, share: float, seed: int) -> tuple[np.ndarray, ...]:
    """Two pairs of classes that nothing tells apart within a pair, and labels changed to any other class."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, 4, n)
    q = np.full((n, 4), 0.01)
    pair = true // 2 * 2
    q[np.arange(n), pair], q[np.arange(n), pair + 1] = 0.49, 0.49
    # What is known within a pair is little, and differs from row to row.
    lean = draw.uniform(-0.25, 0.25, n)
    q[np.arange(n), true] += np.abs(lean)
    q[np.arange(n), pair + (1 - (true - pair))] -= np.abs(lean)
    wrong = draw.random(n) < share
    given = np.where(wrong, (true + draw.integers(1, 4, n)) % 4, true)
    return q / q.sum(1, keepdims=True), true, given


def test_labels_that_are_plainly_wrong_stand_before_those_that_nobody_could_tell() -> None:
    """Overlap looks like noise between the two classes: the account in which labels change alike holds against it."""
    q, true, given = overlapping(3_000, 0.1, 0)
    fusion = fit_fusion([q], given)
    value = suspicion(fusion, [q], given)
    across = (given // 2) != (true // 2)
    assert np.sort(np.argsort(-value)[: across.sum()]).tolist() == np.flatnonzero(across).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_pool_explains_unseen_labels_as_well_as_its_best_expert(seed: int) -> None:
    """Within log K nats in all, of a good expert, a poor one and one that is sure of nonsense."""
    q, _, given = world(1_200, 0.1, "uniform", seed)
    nonsense = np.random.default_rng(seed).dirichlet(np.full(CLASSES, 0.2), len(q))
    experts = [q, tempered(q, 0.2), nonsense]
    half, rest = np.arange(600), np.arange(600, 1_200)
    fusion = fit_fusion([expert[half] for expert in experts], given[half])
    account = fusion.alike
    held = account.noise.explain(account.pooled([expert[rest] for expert in experts]), given[rest])[1]
    alone = max(np.log(np.maximum(expert[rest, given[rest]], 1e-6)).mean() for expert in experts)
    assert held >= alone - np.log(len(experts)) / len(rest)


def test_evidence_of_wrong_labels_is_plain_only_if_there_are_some() -> None:
    q, _, clean = world(2_000, 0.0, "uniform", 3)
    _, _, noisy = world(2_000, 0.1, "uniform", 3)
    assert fit_fusion([q], clean).evidence < 1
    assert fit_fusion([q], noisy).evidence > 20


def test_one_rate_for_all_classes_is_the_mean_of_what_changed() -> None:
    q, true, given = world(4_000, 0.2, "uniform", 4)
    model = fit_noise_model(q, given, alike=True)
    np.testing.assert_allclose(model.transition, changes_alike(CLASSES, model.rate).transition, atol=1e-12)
    assert model.rate == pytest.approx((given != true).mean(), abs=0.02)


class TestPanel:
    @pytest.mark.parametrize("n", [200, 2_000])
    def test_last_features_that_know_the_labels_by_heart_are_not_asked(self, n: int) -> None:
        q, true, given = world(n, 0.1, "uniform", 5)
        parrot = np.eye(CLASSES)[given] * 0.98 + 0.02 / CLASSES
        experts = {LAST: {"probe": parrot}, EARLY: {"probe": q}}
        panel = panel_for(experts, given, agrees=np.ones(n, dtype=bool), seed=0)
        assert panel.by_heart
        assert panel.memory is not None
        assert panel.memory.repeated == 1
        found = panel.judgement(experts, given)
        assert found.suspicion.sum() == pytest.approx((given != true).sum(), rel=0.3)

    def test_a_network_that_denies_the_wrong_labels_is_pooled_with_the_early_features(self) -> None:
        q, true, given = world(2_000, 0.1, "uniform", 6)
        experts = {LAST: {"probe": q}, EARLY: {"probe": tempered(q, 0.6)}}
        panel = panel_for(experts, given, agrees=given == true, seed=0)
        assert not panel.by_heart
        assert [judge.depths for judge in panel.judges] == [(EARLY,), (LAST,)]
        assert panel.judges[1].beside is panel.judges[0]

    def test_a_network_that_is_right_on_clean_labels_is_not_accused(self) -> None:
        q, _, given = world(2_000, 0.0, "uniform", 6)
        weak = tempered(q, 0.4)
        panel = panel_for({LAST: {"probe": q}, INPUTS: {"probe": weak}}, given, agrees=np.ones(2_000, bool), seed=0)
        assert not panel.by_heart

    @pytest.mark.parametrize(
        ("accuracy", "wavering", "known"), [(1.0, 0.2, True), (1.0, 0.01, False), (0.9, 0.2, False)]
    )
    def test_a_network_that_fits_all_and_wavers_close_by_knows_its_labels(
        self, accuracy: float, wavering: float, known: bool
    ) -> None:
        q, _, given = world(500, 0.0, "uniform", 9)
        agrees = np.arange(500) < 500 * accuracy
        experts = {LAST: {"probe": np.eye(CLASSES)[given] * 0.9 + 0.1 / CLASSES}, INPUTS: {"probe": tempered(q, 0.3)}}
        panel = panel_for(experts, given, agrees=agrees, wavering=wavering, seed=0)
        assert panel.by_heart == known
        assert (len(panel.judges) == 1) == known

    def test_an_extractor_that_did_not_learn_these_labels_is_asked_alone(self) -> None:
        q, _, given = world(2_000, 0.1, "uniform", 7)
        experts = {LAST: {"probe": q}, EARLY: {"probe": tempered(q, 0.3)}}
        panel = panel_for(experts, given, agrees=None, seed=0)
        assert [judge.depths for judge in panel.judges] == [(LAST,)]

    def test_without_untouched_depths_the_last_features_answer(self) -> None:
        q, _, given = world(300, 0.1, "uniform", 8)
        panel = panel_for({LAST: {"probe": q}}, given, agrees=np.ones(300, bool), seed=0)
        assert panel.memory is None
        assert [judge.depths for judge in panel.judges] == [(LAST,)]

    def test_on_unseen_rows_overlap_does_not_hide_the_few_wrong_labels(self) -> None:
        q, true, given = overlapping(3_000, 0.01, 1)
        found = panel_on_unseen({LAST: {"probe": q}}, given, seed=0).judgement({LAST: {"probe": q}}, given)
        across = (given // 2) != (true // 2)
        assert np.sort(np.argsort(-found.suspicion)[: across.sum()]).tolist() == np.flatnonzero(across).tolist()

    def test_unseen_rows_weigh_every_depth_by_their_own_labels(self) -> None:
        q, true, given = world(2_000, 0.1, "uniform", 9)
        nothing = np.full_like(q, 1 / CLASSES)
        experts = {LAST: {"probe": q}, EARLY: {"probe": nothing}}
        panel = panel_on_unseen(experts, given, seed=0)
        found = panel.judgement(experts, given)
        assert found.suspicion.sum() == pytest.approx((given != true).sum(), rel=0.2)


def test_pooling_is_the_logarithmic_mean() -> None:
    a, b = np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]])
    expected = np.sqrt(a * b) / np.sqrt(a * b).sum()
    np.testing.assert_allclose(logarithmic_mean([a, b]), expected)


def test_the_suggested_label_is_the_best_other_class() -> None:
    posterior = np.array([[0.2, 0.7, 0.1], [0.9, 0.04, 0.06]])
    found = judged(posterior, posterior, np.array([0, 0]), np.zeros(2))
    assert found.suggested.tolist() == [1, 2]
    np.testing.assert_allclose(found.suspicion, [0.8, 0.1])
    np.testing.assert_allclose(found.suggested_probability, [0.7, 0.06])


def test_copies_under_several_labels_are_suspect_by_their_shares() -> None:
    """Three copies called 0, one called 1; a row of its own; two copies that agree."""
    group, given = np.array([0, 0, 0, 0, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 1])
    least = least_of_copies(group, given)
    np.testing.assert_allclose(least, [0.25, 0.25, 0.25, 0.75, 0, 0, 0])
    posterior = np.full((7, 2), 0.01)
    posterior[np.arange(7), given] = 0.99
    found = at_least(judged(posterior, posterior, given, np.zeros(len(given))), least)
    np.testing.assert_allclose(found.suspicion, np.maximum(least, 0.01))
    np.testing.assert_allclose(found.suggested_probability, np.maximum(least, 0.01))


class TestLevel:
    @given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.floats(0.05, 0.95))
    def test_suspicion_sums_to_it_in_the_same_order(self, values: list[float], share: float) -> None:
        before = np.array(values)
        after = at_level(before, share * len(before))
        assert after.sum() == pytest.approx(share * len(before), rel=1e-6)
        order = np.argsort(before, kind="stable")
        assert np.all(np.diff(after[order]) >= 0)

    def test_the_confident_joint_counts_as_by_hand(self) -> None:
        """Means of the own class: 0.65 and 0.7. The third row is confident of the other class, the fourth of none."""
        q = np.array([[0.9, 0.1], [0.7, 0.3], [0.25, 0.75], [0.4, 0.6], [0.2, 0.8]])
        given = np.array([0, 0, 0, 1, 1])
        assert [q[given == c, c].mean() for c in (0, 1)] == pytest.approx([1.85 / 3, 0.7])
        assert confident_joint(q, given) == 1

    @pytest.mark.parametrize("kind", ["uniform", "lookalike"])
    def test_the_range_holds_the_truth_where_experts_are_right(self, kind: str) -> None:
        q, true, given = world(4_000, 0.15, kind, 12, clearness=2.0)
        fusion = fit_fusion([q], given)
        level = count_wrong(suspicion(fusion, [q], given), fusion.pooled([q]), given).level
        wrong = (given != true).sum()
        assert 0.8 * level.low <= wrong <= level.high
        assert level.low <= level.flags <= level.high


class TestCut:
    def test_about_one_half_where_wrong_and_right_are_told_apart(self) -> None:
        assert cut_for(np.array([0.99] * 10 + [0.001] * 90), None, 30.0) == 0.1
        assert cut_for(np.array([0.99] * 10 + [0.001] * 90), None, 5.0) == 0.5

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 60))
    def test_it_flags_as_many_rows_as_are_counted_within_its_bounds(self, values: list[float], count: float) -> None:
        suspicion = np.array(values)
        cut = cut_for(suspicion, None, count)
        assert 0.1 <= cut <= 0.5
        flagged = int((suspicion > cut).sum())
        if cut < 0.5:
            assert flagged <= round(count)
        if cut > 0.1:
            # The next row lies less than a step below, or is as suspect as the last one.
            assert flagged >= min(round(count), int((suspicion > cut + 0.01).sum()))

    def test_the_mean_of_the_flagged_is_the_precision_asked_for(self) -> None:
        value = np.array([0.99, 0.9, 0.8, 0.6, 0.3, 0.1])
        cut = cut_for(value, 0.85, 0.0)
        assert (value > cut).sum() == 3  # means 0.99, 0.945, 0.897, 0.8225
        assert value[value > cut].mean() >= 0.85

    def test_nothing_is_flagged_where_no_row_is_suspect_enough(self) -> None:
        assert not (np.array([0.5, 0.4]) > cut_for(np.array([0.5, 0.4]), 0.9, 0.0)).any()

    def test_ties_stay_together(self) -> None:
        value = np.array([0.9, 0.9, 0.9])
        assert (value > cut_for(value, 0.9, 0.0)).all()

    def test_all_rows_where_all_may_be(self) -> None:
        value = np.array([0.9, 0.8])
        assert (value > cut_for(value, 0.5, 0.0)).all()


def test_the_detectors_that_spoke_are_those_that_rank_the_row_first() -> None:
    q = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    votes = np.array([[1.0, 9.0], [9.0, 1.0], [8.0, 2.0], [7.0, 3.0]])
    signals = Signals(np.zeros(4, dtype=int), None, None, None, q, np.zeros(4), votes, None, None)
    told = spoken(signals, 1)
    assert told[2] == "leave_one_out_loss,leave_one_out_margin"
    assert "neighbours" in told[0].split(",")
    assert told[1] == told[3] == ""


def test_a_rows_word_says_what_the_cut_and_the_experts_say() -> None:
    posterior = np.array([[0.2, 0.8], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    found = judged(posterior, posterior, np.zeros(4, dtype=int), np.array([1.0, 0.5, 0.49, 0.0]))
    assert found.words(0.5) == ["wrong", "ambiguous", "fine", "fine"]
    assert found.words(0.05) == ["wrong", "wrong", "wrong", "wrong"]


def test_law_dissent_is_the_share_of_the_say() -> None:
    """By the experts' own weights; beside a judge of untouched depths either has half."""
    draw = np.random.default_rng(0)
    given = draw.integers(0, 3, 400)
    wrong = draw.random(400) < 0.1
    truth = np.where(wrong, (given + 1) % 3, given)
    right = 0.9 * np.eye(3)[truth] + 0.1 / 3
    parrot = 0.9 * np.eye(3)[given] + 0.1 / 3
    panel = panel_for({INPUTS: {"a": right}, LAST: {"b": parrot}}, given, agrees=given == truth, seed=0)
    found = panel.judgement({INPUTS: {"a": right}, LAST: {"b": parrot}}, given)
    assert len(panel.judges) == 2
    np.testing.assert_allclose(found.dissent, np.where(wrong, 0.75, 0.0))


def test_outputs_in_another_order_are_matched_to_the_classes_they_make_right() -> None:
    """Else a network that knows its labels by heart seems to repeat none of them."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 200)
    order = np.array([2, 0, 3, 1])
    outputs = np.argsort(order)[labels]
    outputs[:20] = draw.integers(0, 4, 20)
    for said, best in ((outputs, order), (labels, np.arange(4))):
        found, share = matched(torch.from_numpy(said), torch.from_numpy(labels), 4)
        np.testing.assert_array_equal(found, best)
        assert share == np.mean(best[said] == labels)


def test_outputs_that_share_their_most_frequent_class_are_matched_as_all_permutations_tell() -> None:
    said, given = (torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    given[said == 1] = 0  # outputs 0 and 1 both go with class 0
    given[(said == 0) & (torch.arange(60) % 3 > 0)] = 0
    order, share = matched(said, given, 4)
    every = [float((torch.tensor(one)[said] == given).double().mean()) for one in permutations(range(4))]
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert share == max(every) == float((order[said] == given).double().mean())
