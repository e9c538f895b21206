"""Fewer rows than columns: the head in the span of its rows is the head, at a fraction of the size."""

import pytest
import torch
from torch import Tensor

import curate.engine.curvature.head
import curate.engine.neighbours
from curate.engine.curvature.head import FactorisedHead, HeadCurvature
from curate.engine.curvature.row_space import RowSpace
from curate.engine.influence.stability import solved_at
from curate.engine.neighbours import largest_directions
from curate.engine.probe import fit_softmax, penalties, probe_inputs
from curate.engine.suspicion.crossfit import Copies, left_out

N, WIDTH, CLASSES = 24, 60, 3


def made(copies: bool = False) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(N) % CLASSES
    centres = torch.randn(CLASSES, WIDTH, generator=draw, dtype=torch.float64)
    features = centres[labels] + 2 * torch.randn(N, WIDTH, generator=draw, dtype=torch.float64)
    if copies:  # rows that span less than they are many
        features[5:9] = features[4]
    return probe_inputs(features), labels


def whole(x: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch) -> FactorisedHead:
    """As if no row space were known."""
    with monkeypatch.context() as patch:
        patch.setattr(RowSpace, "pays", staticmethod(lambda n, penalty: False))
        head = fit_softmax(x, labels, CLASSES, penalties(0.05, x)).curvature(x).factorise()
        assert head.curvature.inner is head.curvature
        return head


@pytest.mark.parametrize("copies", [False, True])
def test_weights_solves_and_scores_are_those_of_all_columns(copies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = made(copies)
    wide = whole(x, labels, monkeypatch)
    probe = fit_softmax(x, labels, CLASSES, penalties(0.05, x))
    narrow = probe.curvature(x).factorise()
    assert narrow.inverse is not None
    assert len(narrow.inverse) == CLASSES * (N + 1) < CLASSES * (WIDTH + 1)
    torch.testing.assert_close(narrow.curvature.probabilities, wide.curvature.probabilities, rtol=0, atol=1e-6)
    rights = torch.randn(5, CLASSES * (WIDTH + 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rights -= rights.view(5, CLASSES, -1).mean(1).repeat(1, CLASSES)  # biases moved together change nothing
    for solve in (FactorisedHead.solve, lambda head, rows: solved_at(head, rows, 10.0)):
        torch.testing.assert_close(solve(narrow, rights), solve(wide, rights), rtol=1e-4, atol=1e-4)
    logits = probe.logits(x)
    one, other = narrow.scores(logits, labels), wide.scores(logits, labels)
    torch.testing.assert_close(one.self_influence, other.self_influence, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.leave_one_out, other.leave_one_out, rtol=1e-5, atol=1e-5)


def test_a_solve_is_the_inverse_of_the_products_with_all_columns() -> None:
    x, labels = made()
    head = fit_softmax(x, labels, CLASSES, penalties(0.05, x)).curvature(x).factorise()
    rights = torch.randn(4, head.curvature.p, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rights -= rights.view(4, CLASSES, -1).mean(1).repeat(1, CLASSES)
    torch.testing.assert_close(head.curvature @ head.solve(rights), rights, rtol=1e-8, atol=1e-8)


def test_what_is_too_large_whole_is_exact_in_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = made()
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", CLASSES * (N + 1))
    head = fit_softmax(x, labels, CLASSES, penalties(0.05, x)).curvature(x)
    assert head.exact
    assert head.factorise().exact
    monkeypatch.setattr(curate.engine.curvature.head, "MOST_EXACT", CLASSES * (N + 1) - 1)
    blocks = head.factorise()
    assert not blocks.exact
    assert blocks.solve(torch.ones(1, head.p, dtype=torch.float64)).isfinite().all()


def test_without_a_penalty_and_with_enough_rows_all_columns_stay() -> None:
    x, _ = made()
    assert not RowSpace.pays(N, torch.zeros(WIDTH + 1))
    assert not RowSpace.pays(WIDTH, penalties(0.05, x))
    assert RowSpace.pays(WIDTH - 1, penalties(0.05, x))
    curvature = HeadCurvature(x, torch.full((N, CLASSES), 1 / CLASSES).double(), torch.full((WIDTH + 1,), 0.1))
    assert curvature.inner.width == N  # a head without a penalty of its own for the bias


@pytest.mark.parametrize("choose", [False, True])
def test_rows_left_out_are_those_of_all_columns(choose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = made()
    copies = Copies(torch.arange(N), torch.ones(N, dtype=torch.long))
    found = left_out(x, labels, CLASSES, copies, choose=choose)
    monkeypatch.setattr(RowSpace, "pays", staticmethod(lambda n, penalty: False))
    wide = left_out(x, labels, CLASSES, copies, choose=choose)
    torch.testing.assert_close(found.probabilities, wide.probabilities, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.head.weights, wide.head.weights, rtol=0, atol=1e-5)
    assert found.head.penalty.tolist() == wide.head.penalty.tolist()


def test_directions_are_the_same_by_either_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.engine.neighbours, "CHEAP", 1)
    rows = made(copies=True)[0]
    few, many = largest_directions(rows, 8), torch.linalg.eigh(rows.T @ rows)[1].flip(1)[:, :8]
    torch.testing.assert_close(few @ few.T, many @ many.T, rtol=0, atol=1e-8)
    assert largest_directions(rows, 40).shape[1] == N - 4
