"""Influence through the network and at large heads against exact twins, and whose gradients are taken."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from tensor_rows import LabelledRows
from torch import nn
from torch.nn import functional as F

import curate.engine.curvature.class_blocks
import curate.engine.curvature.head
from curate.engine.cells import largest
from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.head import HeadCurvature
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.curvature.operator import Operator
from curate.engine.influence.damping import default_damping, tenth_of_mean
from curate.engine.influence.deep import Candidates, Question, deep_influence, wilson_interval
from curate.engine.influence.head import HeadInfluence, SameContent
from curate.engine.influence.pairs import StrongestPairs
from curate.engine.influence.problem import Problem
from curate.engine.influence.self_influence import self_influence
from curate.engine.loss import SOFTMAX
from curate.engine.neighbours import Neighbours, neighbour_votes
from curate.engine.passes import Alone, Budget
from curate.engine.probe import fit_probe, fit_softmax, probe_inputs
from curate.engine.ranks import spearman
from curate.engine.solvers.approximate import EKFACSolver
from curate.engine.solvers.base import Prepared, Solver
from curate.engine.solvers.dual import Exact
from curate.engine.solvers.lissa import LiSSA
from curate.process.progress import Progress

N, T, K = 150, 12, 30
SILENT = Progress.silent()
World = tuple[nn.Module, LabelledRows, LabelledRows]


@pytest.fixture(scope="module")
def world() -> World:
    digits = load_digits(n_class=4)
    x, y = torch.tensor(digits.data[: N + T] / 16).float(), torch.tensor(digits.target[: N + T])
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 4))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(module(x[:N]), y[:N]).backward()
        optimiser.step()
    return module, LabelledRows.of(module, x[:N], y[:N], "t"), LabelledRows.of(module, x[N:], y[N:], "e")


def test_only_the_candidates_gradients_are_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    module, train, evaluation = world
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    chosen = torch.tensor([1, 4, 7])
    candidates = np.stack([np.random.default_rng(row).permutation(N)[:K] for row in range(3)])
    taken: list[torch.Tensor] = []
    solved = Exact()
    plain = Objective.row_gradients

    def counted(self: Objective, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        taken.append(x)
        return plain(self, x, weights)

    class OnlyTheSolve(Solver):
        """The exact solve, its own row gradients not counted."""

        name, bound = "exact", 1e-6

        def prepare(self, operator: Operator, damping: float) -> Prepared:
            monkeypatch.setattr(Objective, "row_gradients", plain)
            prepared = solved.prepare(operator, damping)
            monkeypatch.setattr(Objective, "row_gradients", counted)
            return prepared

    monkeypatch.setattr(Objective, "row_gradients", counted)
    same = SameContent(train.sha256, evaluation.sha256)
    result = deep_influence(
        Problem(objective, train),
        Question(evaluation, chosen, same),
        Candidates(candidates),
        OnlyTheSolve(),
        0.01,
        0,
        SILENT,
    )
    union = np.unique(candidates)
    # The damping was given, so row gradients are those of the chosen evaluation rows and of the candidates: no more.
    assert sum(len(x) for x in taken) == len(chosen) + len(union)
    assert result.gradients_taken == len(union)
    for evaluation_row, train_row in zip(result.pairs.evaluation.tolist(), result.pairs.train.tolist(), strict=True):
        assert train_row in candidates[chosen.tolist().index(evaluation_row)]


def test_deep_influence_is_its_dense_twin(world: World) -> None:
    module, train, evaluation = world
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    everyone, groups = np.tile(np.arange(N), (T, 1)), torch.arange(T) % 5
    same = SameContent(train.sha256, evaluation.sha256)
    question = Question(evaluation, torch.arange(T), same, groups=groups, minimum=0.0)
    result = deep_influence(Problem(objective, train), question, Candidates(everyone), Exact(), 0.05, 0, SILENT)
    assert train.logits is not None
    assert evaluation.logits is not None
    gradients = objective.row_gradients(train.inputs.x, SOFTMAX.residuals(train.logits, train.labels)).double()
    theirs = objective.row_gradients(
        evaluation.inputs.x, SOFTMAX.residuals(evaluation.logits, evaluation.labels)
    ).double()
    probabilities = train.logits.softmax(1)
    factor = torch.cat(
        [
            objective.row_gradients(
                train.inputs.x,
                probabilities.sqrt()[:, c : c + 1] * (F.one_hot(torch.tensor(c), 4) - probabilities),
            )
            for c in range(4)
        ]
    ).double()
    curvature = factor.T @ factor / N + 0.05 * torch.eye(objective.p)
    dense = theirs @ torch.linalg.solve(curvature, (gradients - gradients.mean(0)).T) / N  # [T n]
    torch.testing.assert_close(result.harm.double(), -dense.mean(0), rtol=1e-3, atol=1e-6)
    for row, column, value, rank in zip(*(part.tolist() for part in result.pairs.columns()), strict=True):
        assert value == pytest.approx(float(dense[row, column]), rel=1e-2, abs=1e-6)
        ordered = dense[row].argsort(descending=rank > 0)
        assert float(dense[row, ordered[abs(rank) - 1]]) == pytest.approx(value, rel=1e-2, abs=1e-6)
    assert result.recall == 1.0
    # Harm by group is the mean over the group's rows, of every training row with the harm that was asked for.
    by_group = result.by_group
    assert by_group.rows.tolist() == (result.harm >= 0).nonzero()[:, 0].tolist()
    for group in range(5):
        theirs_then = -dense[groups == group].mean(0)[by_group.rows]
        torch.testing.assert_close(by_group.values[:, group].double(), theirs_then, rtol=1e-2, atol=1e-6)


def test_ranks_kept_are_those_of_solved_scores(world: World) -> None:
    """What a receipt of EK-FAC says of its ranking, against a solve of the curvature itself."""
    module, train, evaluation = world
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    everyone, same = np.tile(np.arange(N), (T, 1)), SameContent(train.sha256, evaluation.sha256)
    approximate, exact = (
        deep_influence(
            Problem(objective, train),
            Question(evaluation, torch.arange(T), same),
            Candidates(everyone),
            solver,
            1e-3,
            0,
            SILENT,
        )
        for solver in (EKFACSolver(), Exact())
    )
    assert exact.ranks_kept is None
    assert train.logits is not None
    gradients = objective.row_gradients(train.inputs.x, SOFTMAX.residuals(train.logits, train.labels))
    theirs, solved = (gradients @ result.solution.rows[-4:].T for result in (approximate, exact))
    true = np.mean([spearmanr(theirs[:, row], solved[:, row])[0] for row in range(4)])
    assert approximate.ranks_kept == pytest.approx(true, abs=0.03)
    assert 0.2 < true < 0.99


def test_candidates_are_those_that_hold_more_of_the_strongest_rows(
    world: World,
) -> None:
    module, train, evaluation = world
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    chosen = torch.arange(T)
    nothing = np.tile(np.arange(30), (T, 1))
    same = SameContent(train.sha256, evaluation.sha256)
    problem, all_rows = Problem(objective, train), np.tile(np.arange(N), (T, 1))
    question = Question(evaluation, chosen, same)
    everyone = deep_influence(problem, question, Candidates(all_rows), Exact(), 0.05, 0, SILENT)
    assert everyone.recall == everyone.recall_of_harmful == 1
    strongest = np.zeros((T, 20), dtype=int)
    for row in range(T):  # ten of each side hold most of the twenty strongest
        strongest[row] = everyone.pairs.train[everyone.pairs.evaluation == row].numpy()
    for offered, by_head in ((nothing[:, :20], strongest), (strongest, nothing[:, :20])):
        result = deep_influence(problem, question, Candidates(offered, by_head), Exact(), 0.05, 0, SILENT)
        assert result.recall == max(result.recalls.values())
        assert result.recall > min(result.recalls.values()) + 0.3
        assert result.recall_of_harmful == 1  # the ten of most harm are one of the two sides
        assert set(result.pairs.train[result.pairs.evaluation == 5].tolist()) <= set(strongest[5].tolist())


def test_a_head_too_large_to_factorise_keeps_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_digits()
    features, labels = torch.tensor(digits.data[:600]).float(), torch.tensor(digits.target[:600])
    head, x = fit_probe(features, labels, 10)
    exact = head.curvature(x).factorise()
    exact_scores = exact.scores(head.logits(x), labels)
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", 100)
    blocks = head.curvature(x).factorise()
    assert not blocks.exact
    block_scores = blocks.scores(head.logits(x), labels)
    assert spearmanr(exact_scores.self_influence, block_scores.self_influence)[0] > 0.95
    # Evaluation influence is still solved, by CG with the blocks as preconditioner. (The solutions differ along the
    # biases' common direction, which no influence sees.)
    rests = SOFTMAX.residuals(head.logits(x[:5]), labels[:5])
    large, small = HeadInfluence(blocks, labels, exact_scores), HeadInfluence(exact, labels, exact_scores)
    by_cg, residual, steps = large.solve(large.gradients(x[:5], rests))
    assert steps > 1
    assert residual <= 1e-3
    true = small.on(small.solve(small.gradients(x[:5], rests))[0])
    assert float((large.on(by_cg) - true).norm() / true.norm()) < 0.01


@pytest.mark.parametrize("most_exact", [8_000, 0])
def test_rank_stability_at_the_head_is_that_of_dense_solves(most_exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a factor of H at one penalty, or by blocks of it, as by H itself at each of the three."""
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", most_exact)
    digits = load_digits(n_class=4)
    features, labels = torch.tensor(digits.data[:600]), torch.tensor(digits.target[:600])
    probe, x = fit_probe(features[:400].float(), labels[:400], 4)
    curvature, logits = probe.curvature(x), probe.logits(x)
    head = curvature.factorise()
    assert head.exact == bool(most_exact)
    influence = HeadInfluence(head, labels[:400], head.scores(logits, labels[:400]))
    asked = probe_inputs(features[400:].float()).to(x)
    rests = SOFTMAX.residuals(probe.logits(asked), labels[400:])
    found = influence.stability(asked, rests)
    harms = []
    for factor in (0.1, 1.0, 10.0):
        dense = HeadCurvature(x, curvature.probabilities, factor * curvature.penalty)
        matrix = dense @ torch.eye(dense.p, dtype=x.dtype)
        solved = (torch.linalg.pinv(matrix, rtol=1e-12) @ (rests.T @ asked / 200).flatten())[None]
        harms.append(-influence.on(solved)[:, 0])
    for name, harm in (("0.1", harms[0]), ("10", harms[2])):
        stable = found[name]
        assert isinstance(stable, dict)
        assert stable["spearman"] == pytest.approx(float(spearmanr(harms[1], harm)[0]), abs=2e-3)
        assert 0 < stable["top"] < 1
    assert found["0.1"] != found["10"]


def test_a_screen_keeps_the_strongest_pairs_and_their_influence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve classes, whose rows are near one of twelve middles."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 12, (900,), generator=generator)
    middles = 2 * torch.randn(12, 30, generator=generator)
    x = torch.cat([middles[labels] + torch.randn(900, 30, generator=generator), torch.ones(900, 1)], dim=1)
    head, asked = fit_softmax(x, labels, 12, torch.full((31,), 0.05)), x[:70]
    factorised = head.curvature(x).factorise()
    influence = HeadInfluence(factorised, labels, factorised.scores(head.logits(x), labels))
    rests = SOFTMAX.residuals(head.logits(asked), labels[:70])
    same = SameContent([f"{row}" for row in range(900)], [f"{row}" for row in range(70)])
    whole = influence.strongest(asked, rests, torch.arange(70), same, SILENT)
    assert whole.recall is None
    monkeypatch.setattr("curate.engine.influence.head.LEAST_WORK", 0)
    found = influence.strongest(asked, rests, torch.arange(70), same, SILENT)
    assert found.recall is not None
    assert found.recall >= 0.98
    share = found.pairs.held(whole.pairs)
    assert share > 0.98
    strength = {(int(t), int(i)): float(v) for t, i, v, _ in zip(*whole.pairs.columns(), strict=True)}
    both = [
        (float(v), strength[int(t), int(i)])
        for t, i, v, _ in zip(*found.pairs.columns(), strict=True)
        if (int(t), int(i)) in strength
    ]
    assert len(both) == round(share * len(strength))
    for here, there in both:
        assert here == pytest.approx(there, rel=1e-3, abs=1e-9)
    # Where no few products tell H⁻¹ g_t, all pairs are scanned, as if nothing had been tried.
    monkeypatch.setattr("curate.engine.influence.screen.LEFT", 0.0)
    again = influence.strongest(asked, rests, torch.arange(70), same, SILENT)
    assert again.recall is None
    for here, there in zip(again.pairs.columns(), whole.pairs.columns(), strict=True):
        assert torch.equal(here, there)


def test_neighbours_gone_through_block_by_block_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 12, generator=generator)
    x[40:60] = x[100:120]  # equal ones stand in several blocks
    whole = Neighbours(x, 0).nearest(x[:70], 23)
    monkeypatch.setattr("curate.engine.neighbours.AGAINST", 17)
    parts = Neighbours(x, 0).nearest(x[:70], 23)
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-6)


def test_a_smaller_budget_of_memory_changes_the_head_by_rounding_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(500, 20, generator=generator), torch.ones(500, 1)], dim=1)
    labels = torch.randint(0, 3, (500,), generator=generator)
    head, asked = fit_softmax(x, labels, 3, torch.full((21,), 0.1)), x[:40]
    found = []
    for memory in (2**32, 2**16):
        curvature = head.curvature(x, Alone(Budget(memory)))
        factorised = curvature.factorise()
        influence = HeadInfluence(factorised, labels, factorised.scores(head.logits(x), labels))
        rests = SOFTMAX.residuals(head.logits(asked), labels[:40])
        everyone = SameContent([f"t{row}" for row in range(500)], [f"e{row}" for row in range(40)])
        pairs = influence.strongest(asked, rests, torch.arange(40), everyone, SILENT).pairs
        scores, strongest = influence.scores, pairs.influence[(100 * pairs.evaluation + pairs.rank).argsort()]
        found.append([scores.self_influence, scores.leave_one_out, influence.harm(asked, rests)[0], strongest])
        assert (len(influence.blocks(40)) > 1) == (memory < 2**32)
    for usual, few in zip(*found, strict=True):
        torch.testing.assert_close(few, usual, rtol=1e-5, atol=1e-6 * float(usual.abs().max()))


def test_leaving_out_by_class_is_the_dense_solve() -> None:
    generator = torch.Generator().manual_seed(0)
    p = (3 * torch.randn(40, 7, generator=generator, dtype=torch.float64)).softmax(1)
    m = torch.rand(40, 7, generator=generator, dtype=torch.float64)
    r, sizes = torch.randn(40, 7, generator=generator, dtype=torch.float64), torch.arange(40) % 3 + 1
    p[0] = torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0])
    m[0, 0], sizes[0] = 2.0, 1  # p m = 1: the diagonal is singular, the whole is not
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    dense = torch.linalg.solve(torch.eye(7).double() - sizes[:, None, None] * s @ torch.diag_embed(m), r)
    torch.testing.assert_close(SOFTMAX.corrected(p, m, r, sizes), dense, rtol=1e-4, atol=1e-4)


def test_of_many_classes_the_few_that_a_row_moves_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(60, (3000,), generator=generator)
    features = torch.randn(60, 40, generator=generator)[labels] + torch.randn(3000, 40, generator=generator)
    labels[:300] = torch.randint(60, (300,), generator=generator)
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", 100)
    head, x = fit_probe(features, labels, 60)
    short = head.curvature(x).factorise().scores(head.logits(x), labels)
    monkeypatch.setattr(curate.engine.curvature.class_blocks, "CHANCES", -1.0)
    full = head.curvature(x).factorise().scores(head.logits(x), labels)
    moved = full.leave_one_out - head.logits(x)
    assert float((short.leave_one_out - full.leave_one_out).norm() / moved.norm()) < 0.03
    assert float((short.self_influence - full.self_influence).norm() / full.self_influence.norm()) < 0.03
    assert float((short.corrected - full.corrected).norm() / full.corrected.norm()) < 0.01


@pytest.mark.parametrize(("classes", "width", "sure", "penalty"), [(600, 3, 0.01, 100), (40, 12, 2.0, 1)])
def test_a_near_inverse_that_is_enough_takes_no_steps(
    classes: int, width: int, sure: float, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of many classes are, of rows that are sure of nothing, and else not; both ways H⁻¹ is solved for."""
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", 100)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (600,), generator=generator)
    features = 3 * torch.randn(classes, width, generator=generator)[labels]
    head, x = fit_probe(features + torch.randn(600, width, generator=generator), labels, classes)
    logits = head.logits(x) * sure
    curvature = HeadCurvature(x, logits.softmax(1), penalty * head.penalty)
    blocks = curvature.factorise()
    influence = HeadInfluence(blocks, labels, blocks.scores(logits, labels))
    rests = SOFTMAX.residuals(logits, labels)
    means = influence.group_means(x, rests, torch.arange(600) % 8)
    rights = torch.cat([influence.gradients(x[:8], rests[:8]), means])
    found, residual, steps = influence.solve(rights)
    assert (steps == 1) == (sure < 1)
    assert residual < 1e-2
    units = torch.eye(curvature.p).to(x)
    matrix = curvature @ units + (units - curvature.settled(units)) / classes  # regular along what changes nothing
    true = torch.linalg.solve(matrix, curvature.settled(rights).T).T
    assert float(((curvature.settled(found) - true).norm(dim=1) / true.norm(dim=1)).max()) < 4e-3


def test_what_changes_nothing_is_no_error_that_more_steps_are_taken_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases without a penalty, moved alike in all classes: in float32 their rounding kept steps going to the last."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(60, (600,), generator=generator)
    features = 0.28 * torch.randn(60, 32, generator=generator)[labels]
    features += 0.5 * torch.randn(600, 32, generator=generator)
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", 100)
    monkeypatch.setattr(curate.engine.curvature.head, "FLOAT64_WORK", 1e6)
    head, x = fit_probe(features, labels, 60)
    curvature, x = head.curvature(x.float()), x.float()
    assert curvature.dtype_of_sums == torch.float32
    blocks, logits = curvature.factorise(), head.logits(x)
    influence = HeadInfluence(blocks, labels, blocks.scores(logits, labels))
    rights = influence.gradients(x[:8], SOFTMAX.residuals(logits[:8], labels[:8]))
    solved, residual, steps = influence.solve(rights)
    assert steps <= 20
    assert residual <= 1e-4
    precise = curvature.precise()
    torch.testing.assert_close(precise.settled(precise @ solved.double()), rights.double(), rtol=0, atol=1e-4)
    assert float(solved.view(8, 60, -1)[:, :, -1].mean(1).abs().max()) <= 1e-4


def test_equal_content_is_left_out_together() -> None:
    """The leave-one-out logits of a row with copies are those of a row whose whole group is gone."""
    digits = load_digits(n_class=3)
    features, labels = torch.tensor(digits.data[:120]).float(), torch.tensor(digits.target[:120])
    features, labels = torch.cat([features, features[:1].repeat(3, 1)]), torch.cat([labels, labels[:1].repeat(3)])
    labels[[0, 120, 121, 122]] = (labels[0] + 1) % 3
    head, x = fit_probe(features, labels, 3)
    logits = head.logits(x)
    rests = SOFTMAX.residuals(logits, labels)
    sizes = torch.ones(len(labels), dtype=torch.long)
    sums = rests.clone()
    group = torch.tensor([0, 120, 121, 122])
    sizes[group], sums[group] = 4, rests[group].sum(0)
    grouped = head.curvature(x).factorise().scores(logits, labels, sizes, sums)
    alone = head.curvature(x).factorise().scores(logits, labels)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[group] = False
    refit, _ = fit_probe(features[rest], labels[rest], 3)
    true = refit.logits(probe_inputs(features[:1]).double()).softmax(1)[0, labels[0]]
    by_group = grouped.leave_one_out[0].softmax(0)[labels[0]]
    by_row = alone.leave_one_out[0].softmax(0)[labels[0]]
    assert abs(by_group - true) < 0.2 * abs(by_row - true)


def test_strongest_pairs_do_not_depend_on_the_blocks() -> None:
    values = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # with ties
    whole, parts = StrongestPairs(torch.arange(7), 5), StrongestPairs(torch.arange(7), 5)
    whole.add(values, torch.arange(200))
    for rows in torch.randperm(200, generator=torch.Generator().manual_seed(1)).split(13):
        parts.add(values[rows], rows)
    for left, right in zip(whole.pairs().columns(), parts.pairs().columns(), strict=True):
        assert torch.equal(left, right)
    best = whole.pairs()
    first = (best.evaluation == 3) & (best.rank == 1)
    assert float(best.influence[first]) == float(values[:, 3].max())


def test_neighbours_are_the_brute_force_ones_and_copies_do_not_vote() -> None:
    features = torch.randn(80, 5, generator=torch.Generator().manual_seed(2))
    features[1] = features[0] * 2  # the same direction: cosine does not tell them apart
    found, similarity = Neighbours(features, 0).nearest(features, 6)
    unit = features / features.norm(dim=1, keepdim=True)
    true = (unit @ unit.T).topk(6, dim=1)
    np.testing.assert_allclose(similarity, true.values.numpy(), atol=1e-5)
    assert set(found[5]) == set(true.indices[5].tolist())
    labels, groups = np.arange(80) % 2, np.arange(80)
    groups[1] = 0
    votes = neighbour_votes(found, similarity, labels, groups, groups, 2, 3)
    others = [row for row in found[0] if row not in (0, 1)][:3]
    assert votes[0].sum() == pytest.approx(sum(similarity[0][list(found[0]).index(row)] ** 2 for row in others))


@pytest.mark.parametrize(("noise", "least"), [(0.0, 1.0), (0.05, 0.7)])
def test_neighbours_of_wide_features_are_those_of_their_principal_directions(noise: float, least: float) -> None:
    generator = torch.Generator().manual_seed(3)
    spread = torch.linspace(1, 0.1, 40)
    inner = torch.randn(600, 40, generator=generator) * spread
    wide = inner @ torch.linalg.qr(torch.randn(300, 40, generator=generator))[0].T
    wide += noise * torch.randn(600, 300, generator=generator)
    found, similarity = Neighbours(wide, 0).nearest(wide, 11)
    unit = wide / wide.norm(dim=1, keepdim=True)
    true = (unit @ unit.T).topk(11, dim=1)
    same = np.mean([len(set(a[1:]) & set(b[1:])) / 10 for a, b in zip(found, true.indices.numpy(), strict=True)])
    assert same >= least
    if not noise:  # 40 directions hold everything: no angle changes
        np.testing.assert_allclose(similarity, true.values.numpy(), atol=1e-5)


def test_neighbours_of_many_rows_come_from_the_nearest_cells_and_the_recall_is_measured() -> None:
    generator = torch.Generator().manual_seed(4)
    centres = torch.randn(40, 12, generator=generator)
    features = centres[torch.arange(4000) % 40] + 0.2 * torch.randn(4000, 12, generator=generator)
    true, _ = Neighbours(features, 0).nearest(features, 10)
    few = Neighbours(features, 0, most_pairs=1000, probed=400)
    found, similarity = few.nearest(features, 10)
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, true, strict=True)])
    assert few.recall is not None
    assert abs(few.recall - kept) < 0.02
    assert kept > 0.97
    assert (np.diff(similarity, axis=1) <= 1e-6).all()
    assert (found[:, 0] == np.arange(4000)).all()


def test_neighbours_in_few_columns_come_from_a_tree_and_are_the_same() -> None:
    features = torch.randn(300, 3, generator=torch.Generator().manual_seed(5))
    found, similarity = Neighbours(features, 0).nearest(features[:50], 7)
    wide = torch.cat([features, torch.zeros(300, 8)], dim=1)  # the same distances, in too many columns for a tree
    true, cosine = Neighbours(wide, 0).nearest(wide[:50], 7)
    assert (found == true).all()
    np.testing.assert_allclose(similarity, cosine, atol=1e-6)


def test_the_largest_of_many_values_are_in_the_groups_of_the_largest() -> None:
    values = torch.randn(5, 3001, generator=torch.Generator().manual_seed(6))
    found = largest(values, 20).sort(dim=1).values
    assert torch.equal(found, values.topk(20).indices.sort(dim=1).values)


def test_ranks_are_those_of_scipy() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.integers(0, 9, 60).astype(float), draw.normal(size=60)
    assert spearman(one, other) == pytest.approx(float(spearmanr(one, other)[0]), abs=1e-12)


def test_wilson_interval() -> None:
    low, high = wilson_interval(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)  # Brown, Cai & DasGupta 2001
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_curvature_of_a_sample_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_CURVATURE_ROWS", 900)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1800, 4, generator=generator).double()
    p = torch.randn(1800, 3, generator=generator).double().softmax(1)
    penalty = torch.full((4,), 0.1).double()
    sampled = HeadCurvature(x, p, penalty).factorise()
    rows = torch.randn(2, 12, generator=generator).double()
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_CURVATURE_ROWS", 10_000)
    whole = HeadCurvature(x, p, penalty).factorise()
    assert float((sampled.solve(rows) - whole.solve(rows)).norm() / whole.solve(rows).norm()) < 0.1


@pytest.mark.parametrize("everything", [True, False])
def test_self_influence_through_the_network_is_its_dense_twin(
    world: World, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, train, _ = world
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    if not everything:  # C from random signs of every row: near the truth, and never below zero
        monkeypatch.setattr(Exact, "fits", staticmethod(lambda factor_rows, p: False))
    found = self_influence(Problem(objective, train), "all", 0.05, 0, SILENT)
    assert train.logits is not None
    gradients = objective.row_gradients(train.inputs.x, SOFTMAX.residuals(train.logits, train.labels)).double()
    curvature = GaussNewton(objective, train.inputs, train.logits.softmax(1))
    dense = (curvature @ torch.eye(objective.p)).double() + 0.05 * torch.eye(objective.p, dtype=torch.float64)
    twin = (gradients * torch.linalg.solve(dense, gradients.T).T).sum(1) / len(train)
    assert (found.sampled is None) == everything
    assert bool((found.values >= 0).all())
    if everything:
        torch.testing.assert_close(found.values, twin, rtol=1e-3, atol=1e-8)
    else:
        assert spearmanr(found.values, twin)[0] > 0.9


def test_default_damping_is_the_penalty_at_a_minimum_and_what_lissa_solves_elsewhere(
    world: World,
) -> None:
    module, train, _ = world
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    operator = GaussNewton(objective, train.inputs, train.logits.softmax(1))
    away = Problem(objective, train).gradient
    assert away.known_penalty == 0
    found = default_damping(operator, away, seed=0)
    assert found == LiSSA().reach(operator) > 5 * tenth_of_mean(operator, 0)
    assert LiSSA().prepare(operator, found).damping == found  # nothing is left to raise
    assert LiSSA().prepare(operator, 0.9 * found).damping == found
    assert default_damping(operator, away, seed=0, penalty=0.004) == 0.004  # known otherwise

    penalty = 0.02
    head = fit_softmax(train.inputs.x.double(), train.labels, 4, torch.full((64,), penalty).double())
    linear = nn.Linear(64, 4, bias=False)
    linear.weight.data.copy_(head.weights)
    at = LabelledRows.of(linear, train.inputs.x, train.labels, "t")
    objective = Objective(linear, choose_parameters(linear, "all"), lambda output: output)
    operator = GaussNewton(objective, at.inputs, at.logits.softmax(1))
    assert default_damping(operator, Problem(objective, at).gradient, seed=0) == pytest.approx(penalty, rel=1e-3)
