"""Solvers against the dense inverse, and against the mistakes that other tools have shipped."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensor_rows import LabelledRows, TensorRows
from torch import nn

from curate.engine.curvature.gauss_newton import GaussNewton
from curate.engine.curvature.objective import Objective, choose_parameters
from curate.engine.curvature.operator import Damped, Dense
from curate.engine.influence.problem import Problem
from curate.engine.solvers import make_solver
from curate.engine.solvers.approximate import Lanczos, Nystrom
from curate.engine.solvers.automatic import Automatic, choose
from curate.engine.solvers.cg import ConjugateGradients
from curate.engine.solvers.dual import Exact, PrimalInverse, WoodburyInverse
from curate.engine.solvers.gap import gaps, residual_of
from curate.engine.solvers.iterates import InParameters, InRows
from curate.engine.solvers.lissa import LiSSA, flat_bias
from curate.engine.solvers.spectrum import lanczos, preconditioned_range, probe
from curate.errors import CurateError, NumericalError, UsageError
from curate.plugs import CURVATURES, SOLVERS

P = 60


def curvature(n: int = 400, decay: float = 1.0, seed: int = 0) -> Dense:
    """A factor whose spectrum falls as a power law, like that of a trained network."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(P, P, generator=generator).double())[0]
    scales = torch.arange(1, P + 1).double() ** (-decay / 2)
    return Dense(torch.randn(n, P, generator=generator).double() * scales @ basis)


def dense(operator: Dense, damping: float, rows: torch.Tensor) -> torch.Tensor:
    matrix = operator @ torch.eye(P).double() + damping * torch.eye(P)
    return torch.linalg.solve(matrix, rows.T).T


def relative(found: torch.Tensor, true: torch.Tensor) -> float:
    return float(((found - true).norm(dim=1) / true.norm(dim=1)).max())


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(3, P, generator=torch.Generator().manual_seed(7)).double()


def largest(operator: Dense) -> float:
    return float(torch.linalg.eigvalsh(operator @ torch.eye(P).double())[-1])


def test_a_solver_is_taken_by_name_with_settings_or_as_it_is() -> None:
    for name, plug in SOLVERS.items():
        assert make_solver(name).name == name
        assert set(plug.settings) <= {one.name for one in fields(plug.load())}
    tight = LiSSA(tolerance=5e-3, seed=3)
    assert make_solver("lissa:tolerance=0.005", 3) == make_solver("lissa-tight", 3) == make_solver(tight) == tight
    assert make_solver("lissa:tolerance=5e-3,preconditioned").name == "preconditioned-lissa"
    assert make_solver("preconditioned-lissa:steps=90").name == "lissa:tolerance=0.005,steps=90,preconditioned"
    assert make_solver("nystrom:rank=5") == Nystrom(rank=5)
    for wrong in ("magic", "cg:rank=3", "exact:steps=3", "lissa:steps=0", "lissa:steps=1.5", "lissa:preconditioned=1"):
        with pytest.raises(ValueError, match=r"one of|with|above 0"):
            make_solver(wrong)


@pytest.mark.parametrize("curvature", list(CURVATURES))
@pytest.mark.parametrize("name", list(SOLVERS))
def test_every_solver_holds_its_bound_on_every_curvature(name: str, curvature: str) -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double(), torch.randn(150, 6).double()
    problem = Problem(
        Objective(module, choose_parameters(module, "all"), lambda output: output),
        LabelledRows.of(module, x, torch.randint(0, 3, (150,))),
        curvature,
    )
    matrix = problem.operator @ torch.eye(problem.objective.p).double()
    eigenvalues = torch.linalg.eigvalsh(matrix)
    damping = max(0.05 * float(eigenvalues[-1]), -2 * float(eigenvalues[0]))
    right = torch.randn(3, problem.objective.p, generator=torch.Generator().manual_seed(7)).double()
    solver = make_solver(name)
    try:
        solution = solver.prepare(problem.operator, damping).solve(right)
    except UsageError as error:  # no such thing, and it says what to take
        refused = error
    else:
        refused = None
    if refused is not None:
        assert curvature == "hessian"
        assert "use --" in refused.hint.lower()
        return
    true = torch.linalg.solve(matrix + solution.damping * torch.eye(len(matrix)).double(), right.T).T
    error = float(((solution.rows - true).norm(dim=1) / true.norm(dim=1)).mean())
    if solver.bound is None:
        assert abs(solution.error() - error) <= 0.5 * error + 1e-6
    else:
        assert error < solver.bound


@pytest.mark.parametrize("ratio", [1e-5, 1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_exact_cg_and_preconditioned_lissa_from_tiny_to_large_damping(
    rows: torch.Tensor, ratio: float, kind: torch.dtype
) -> None:
    operator = curvature(n=1200, decay=2.0)
    damping = ratio * largest(operator)
    true = dense(operator, damping, rows)
    for solver, error in ((Exact(), 1e-6), (ConjugateGradients(), 1e-4), (make_solver("preconditioned-lissa"), 1e-2)):
        solution = solver.prepare(Dense(operator._factor.to(kind)), damping).solve(rows.to(kind))
        assert solution.damping == damping
        assert relative(solution.rows.double(), true) < error


def test_a_preconditioner_shortens_cg(rows: torch.Tensor) -> None:
    operator, damping = curvature(decay=2.0), 1e-4
    plain = ConjugateGradients(preconditioner=torch.clone).prepare(operator, damping).solve(rows)
    inverse = WoodburyInverse(operator.on(torch.arange(200)).whole_factor(), damping)
    helped = ConjugateGradients(preconditioner=inverse).prepare(operator, damping).solve(rows)
    assert helped.steps < plain.steps
    assert relative(helped.rows, plain.rows) < 1e-4


def test_cg_reports_that_it_did_not_converge(rows: torch.Tensor) -> None:
    solver = ConjugateGradients(steps=6, preconditioner=torch.clone)
    solution = solver.prepare(curvature(decay=3.0), 1e-7).solve(rows)
    assert solution.steps <= 2 * 10
    assert float(solution.residual.max()) > 1e-3
    assert solution.error() > 1e-3


def test_plain_lissa_tight_and_ranking(rows: torch.Tensor) -> None:
    operator = curvature(n=2000)
    damping = 0.02 * largest(operator)
    for make, bar in (("lissa-tight", 0.01), ("lissa", 0.1)):
        found = [make_solver(make, seed).prepare(operator, damping).solve(rows) for seed in range(3)]
        assert all(solution.damping == damping for solution in found)
        assert np.mean([relative(solution.rows, dense(operator, damping, rows)) for solution in found]) < bar


def test_a_sample_grows_until_steps_are_short_else_the_damping_is_raised(
    rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engine.solvers.preconditioner.SAMPLE_ROWS", 20)
    operator = curvature(n=1500, decay=2.0)
    asked = 1e-5 * largest(operator)
    solution = make_solver("preconditioned-lissa").prepare(operator, asked).solve(rows)
    assert solution.damping == asked
    assert solution.detail["preconditioner"] != "Woodbury inverse of 20 gradients"
    assert relative(solution.rows, dense(operator, asked, rows)) < 0.01
    monkeypatch.setattr("curate.engine.solvers.lissa.larger_sample", lambda *_: None)
    short = LiSSA(steps=150, tolerance=0.02, preconditioned=True)
    solution = short.prepare(operator, asked).solve(rows)
    assert solution.damping > asked
    assert solution.steps <= (short.rounds + 1) * short.steps
    assert relative(solution.rows, dense(operator, solution.damping, rows)) < 0.05


@pytest.mark.parametrize("tolerance", [None, 5e-3])
@pytest.mark.parametrize("ratio", [1e-3, 1e-1])
def test_preconditioned_lissa_on_all_rows_draws_nothing(
    tolerance: float | None, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where products with all rows are cheap, and their gradients too many to be written down."""
    monkeypatch.setattr("curate.engine.curvature.operator.WRITTEN_FLOATS", 1)
    monkeypatch.setattr("curate.engine.solvers.preconditioner.SAMPLE_ROWS", 80)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    x = torch.randn(300, 8).double() * torch.arange(1, 9)
    operator = GaussNewton(objective, TensorRows(x), module(x).softmax(1).detach())
    whole = operator @ torch.eye(objective.p).double()
    damping = ratio * float(torch.linalg.eigvalsh(whole)[-1])
    rights = torch.randn(20, objective.p).double()
    true = torch.linalg.solve(whole + damping * torch.eye(objective.p), rights.T).T
    prepared = LiSSA(preconditioned=True, tolerance=tolerance).prepare(operator, damping)
    assert prepared.whole
    solution = prepared.solve(rights)
    error = (solution.rows - true).norm(dim=1) / true.norm(dim=1)
    assert float(error.mean()) < prepared.solver.bound
    assert solution.error() == pytest.approx(float(error[-16:].mean()), rel=0.4)


def test_the_range_of_a_preconditioned_operator_is_that_of_its_eigenvalues() -> None:
    operator = curvature(decay=2.0)
    inverse = WoodburyInverse(operator.on(torch.arange(80)).whole_factor(), 1e-2)
    identity = torch.eye(P).double()
    product = inverse(identity) @ (operator @ identity + 1e-2 * identity)
    eigenvalues = torch.linalg.eigvals(product).real
    least, most = preconditioned_range(Damped(operator, 1e-2), lambda r: inverse(r.double()), P)
    assert least == pytest.approx(float(eigenvalues.min()), rel=1e-6)
    assert most == pytest.approx(float(eigenvalues.max()), rel=1e-6)


def test_ekfac_preconditions_where_a_sample_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax regression has nearly Kronecker factors: with little damping few rows say less than these do."""
    monkeypatch.setattr("curate.engine.solvers.preconditioner.SAMPLE_ROWS", 60)
    monkeypatch.setattr("curate.engine.solvers.cg.written_down", lambda operator: operator)
    torch.manual_seed(0)
    module, x = nn.Linear(40, 5), torch.randn(300, 40)
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    operator = GaussNewton(objective, TensorRows(x), module(x).detach().softmax(1))
    right = torch.randn(3, objective.p)
    taken = {}
    for damping in (1e-3, 3.0):
        solution = ConjugateGradients().prepare(operator, damping).solve(right)
        taken[damping] = solution.detail["preconditioner"]
        true = WoodburyInverse(operator.whole_factor(), damping)(right.double())
        assert relative(solution.rows.double(), true) < 1e-4
    assert taken == {1e-3: "ekfac", 3.0: "Woodbury inverse of 60 gradients"}


def test_steps_in_rows_are_the_steps_in_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """u = α v + Fᵀ w: what is written down in rows is the recursion itself, also where it diverges."""
    factor = torch.randn(150, 500, generator=torch.Generator().manual_seed(1)).double()
    operator, right = Dense(factor), torch.randn(20, 500, generator=torch.Generator().manual_seed(2)).double()
    found = []
    for pays in (False, True):
        monkeypatch.setattr(InRows, "pays", staticmethod(lambda *_, pays=pays: pays))
        found.append(LiSSA(steps=200, batch=70, seed=4).prepare(operator, 2.0).solve(right))
    torch.testing.assert_close(found[1].rows, found[0].rows, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found[1].residual, found[0].residual, rtol=1e-6, atol=1e-10)
    assert found[0].steps == found[1].steps
    longer = InParameters(operator, right, 0.05, 1.0, 40, torch.Generator().manual_seed(3), None)
    shorter = InRows(operator, right, 0.05, 1.0, 40, torch.Generator().manual_seed(3))
    for steps in (longer, shorter):
        for _ in range(8):
            steps.step()
    assert float(longer.size().min()) > 1e3 * float(right.norm(dim=1).max())
    torch.testing.assert_close(shorter.size(), longer.size())


def test_lissa_solves_at_the_damping_it_says(rows: torch.Tensor) -> None:
    """A damping that the budget cannot solve is raised, said, and solved there: not `damp` times `scale` in secret."""
    operator, asked = curvature(n=2000), 1e-6
    solution = LiSSA(steps=400).prepare(operator, asked).solve(rows)
    assert solution.damping > asked
    assert solution.detail["asked"] == asked
    assert relative(solution.rows, dense(operator, solution.damping, rows)) < 0.1
    assert relative(solution.rows, dense(operator, asked, rows)) > 0.3


@pytest.mark.parametrize("name", ["lissa", "lissa-tight", "preconditioned-lissa", "lanczos:rank=12", "nystrom:rank=12"])
@pytest.mark.parametrize("damping", [1e-3, 0.3])
def test_the_error_a_solver_measures_is_its_error(rows: torch.Tensor, name: str, damping: float) -> None:
    operator = curvature(n=2000, decay=3.0)
    solution = make_solver(name, 0).prepare(operator, damping).solve(rows)
    true = dense(operator, solution.damping, rows)
    error = float(((solution.rows - true).norm(dim=1) / true.norm(dim=1)).mean())
    assert 0.5 < solution.error() / error < 2


@pytest.mark.parametrize("name", ["lanczos:rank=12", "nystrom:rank=12"])
def test_an_answer_that_is_many_times_too_large_is_off_by_many_times_the_right_one(
    rows: torch.Tensor, name: str
) -> None:
    """What low rank leaves out it divides by the damping alone."""
    operator, damping = curvature(n=2000), 1e-3
    solution = make_solver(name, 0).prepare(operator, damping).solve(rows)
    true = dense(operator, damping, rows)
    error = float(((solution.rows - true).norm(dim=1) / true.norm(dim=1)).mean())
    assert error > 2
    assert 0.5 < solution.error() / error < 2


def test_a_gap_that_is_estimated_is_the_gap_that_is_computed(
    rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noisy(Dense):
        """Rows with random signs in pairs: E[hᵢ hᵢᵀ] is the mean of the two rows'."""

        def factor(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return super().factor(torch.randint(self.n, (len(indices),), generator=generator), generator)

    operator, solved = Noisy(curvature(n=4000)._factor), rows * 0.3
    exact = gaps(operator, 0.1, rows, solved)
    monkeypatch.setattr("curate.engine.solvers.gap.EXACT_WORK", 0)
    drawn = gaps(operator, 0.1, rows, solved)
    assert len(exact) == 1
    assert len(drawn) == 2
    assert not torch.equal(*drawn)
    torch.testing.assert_close(residual_of(drawn, rows), residual_of(exact, rows), rtol=0.02, atol=0)


def test_low_rank_never_cuts_off_what_it_does_not_know(rows: torch.Tensor) -> None:
    """captum's and dattri's Arnoldi drop flat directions, where the answer is largest: here they get v / λ."""
    operator = curvature(decay=3.0)
    values, vectors, residuals = lanczos(operator, P)
    torch.testing.assert_close(values[-1:], torch.linalg.eigvalsh(operator @ torch.eye(P).double())[-1:])
    assert float(residuals[-1]) < 1e-6
    flat = rows - (rows @ vectors[-20:].T) @ vectors[-20:]
    for solver in (Lanczos(rank=5), Nystrom(rank=5)):
        solution = solver.prepare(operator, 1.0).solve(flat)
        assert relative(solution.rows, flat / 1.0) < 0.05


def test_automatic_says_what_it_takes_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = Dense(curvature()._factor), Dense(curvature(n=12_000)._factor)
    top = probe(large, 256, torch.Generator().manual_seed(0)).top
    assert choose(small, 1.0) == (Exact(), "400 gradients are few enough for an exact solve")
    assert choose(large, 0.1 * top)[0].name == "lissa"
    solver, why = choose(large, 1e-4 * top, firm=False)
    assert solver.name == "lissa"
    assert f"so it is raised; --damping {1e-4 * top:.2g} would keep it" in why
    solver, _ = choose(large, 1e-4 * top)
    assert solver.name == "preconditioned-lissa"
    assert isinstance(solver, LiSSA)
    assert solver == make_solver("preconditioned-lissa")
    monkeypatch.setattr("curate.engine.solvers.automatic.FEW_ROWS", 12_000)
    solver, why = choose(large, 1e-4 * top)
    assert solver.name == "cg"
    assert "12,000 rows are few" in why
    monkeypatch.setattr("curate.engine.solvers.automatic.FEW_ROWS", 0)
    monkeypatch.setattr("curate.engine.solvers.automatic.SAMPLE_FLOATS", 0)
    solver, why = choose(large, 1e-4 * top)
    assert solver.name == "lissa"
    assert "so it is raised" in why


@pytest.mark.parametrize(("share", "error"), [(1.0, 0.05), (1e-2, 0.05), (1e-4, 0.005)])
@pytest.mark.parametrize("few", [0, 12_000])
def test_automatic_answers_at_the_damping_that_was_asked_for(
    rows: torch.Tensor, share: float, error: float, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever solver it takes: plain LiSSA within 5 %, the others, which take over at a small one, within .5 %."""
    monkeypatch.setattr("curate.engine.solvers.automatic.FEW_ROWS", few)
    operator = curvature(n=12_000)
    damping = share * probe(operator, 256, torch.Generator().manual_seed(0)).top
    solution = Automatic().prepare(operator, damping).solve(rows)
    assert solution.damping == pytest.approx(damping, rel=0.05)
    assert relative(solution.rows, dense(operator, damping, rows)) <= error / 0.8  # what a measured error may miss


def test_lissa_does_not_diverge_where_the_probe_underrates_the_spectrum(rows: torch.Tensor) -> None:
    """One row in a thousand carries nearly all of the curvature: the probed batches may miss it."""
    factor = torch.randn(3000, P, generator=torch.Generator().manual_seed(3)).double() * 0.1
    factor[:3] *= 300
    solution = LiSSA(steps=300).prepare(Dense(factor), 1e-3).solve(rows)
    assert bool(torch.isfinite(solution.rows).all())
    assert float(solution.rows.norm(dim=1).max()) <= float(rows.norm(dim=1).max()) / solution.damping * 1.01


def test_the_answer_does_not_depend_on_how_the_data_are_batched(rows: torch.Tensor) -> None:
    """dattri's fault: adding up per-batch inverses changes the scale with the batch size (its pull request 241)."""
    operator, damping = curvature(n=2000), 0.05
    small, large = (
        LiSSA(batch=batch, tolerance=5e-3).prepare(operator, damping).solve(rows).rows for batch in (128, 1000)
    )
    assert relative(small, large) < 0.02
    by_batch = sum(dense(operator.on(part), damping, rows) for part in torch.arange(2000).split(128))
    assert relative(by_batch, dense(operator, damping, rows)) > 5


def test_damping_is_the_only_damping(rows: torch.Tensor) -> None:
    """Koh-style `damp` d and `scale` s solve C + d·s I, and stopping after J steps adds about s / J: not here."""
    operator, damping = curvature(n=2000), 0.1
    for steps in (600, 3000):
        solution = LiSSA(steps=steps, tolerance=5e-3).prepare(operator, damping).solve(rows)
        assert solution.damping == damping
        assert relative(solution.rows, dense(operator, damping, rows)) < 0.01


def test_averaging_is_of_different_draws(rows: torch.Tensor) -> None:
    """pytorch_influence_functions averages over r repeats of one answer (issue 19): ours get closer to the truth."""
    operator = curvature(n=5000)
    true = dense(operator, 0.1, rows)
    found = [LiSSA(batch=32, steps=400, seed=seed).prepare(operator, 0.1).solve(rows).rows - true for seed in range(6)]
    assert not torch.equal(found[0], found[1])
    assert float(sum(found).norm() / 6) < 0.8 * float(np.mean([float(one.norm()) for one in found]))


def test_a_damping_lost_in_rounding_is_refused_with_one_to_try(rows: torch.Tensor) -> None:
    factor = curvature(n=100)._factor
    with pytest.raises(NumericalError, match=r"The damping 1.0e-30 is lost.*\n.*--damping"):
        Exact().prepare(Dense(factor * 1e3), 1e-30)


def test_exact_refuses_what_does_not_fit() -> None:
    class Huge(Dense):
        @property
        def factor_rows(self) -> int:
            return 1_000_000

    huge = Huge(torch.zeros(2, 2))
    huge.p = 10_000
    with pytest.raises(UsageError, match="do not fit an exact solve"):
        Exact().prepare(huge, 1.0)


@pytest.mark.parametrize("damping", [1e-1, 1e-4])
def test_many_rows_of_few_parameters_are_solved_through_the_parameters(damping: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5001, 4, generator=generator)
    module = nn.Linear(4, 3)
    torch.nn.init.normal_(module.weight, generator=generator)
    objective = Objective(module, choose_parameters(module, "all"), lambda output: output)
    means = module(x).detach().softmax(1)
    operator = GaussNewton(objective, TensorRows(x), means)
    rights = torch.randn(2, operator.p, generator=generator)
    prepared = Exact().prepare(operator, damping)
    assert isinstance(prepared.inverse, PrimalInverse)
    found = prepared.solve(rights)
    assert float(found.residual.max()) < 1e-6
    whole, given = torch.zeros(3, 5, 3, 5, dtype=torch.float64), torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    for c in range(3):
        for e in range(3):
            weight = (means[:, c] * (float(c == e) - means[:, e])).double()
            whole[c, :, e] = given.T @ (given * weight[:, None]) / len(x)
    # The network's order: all weights, then all biases.
    order = torch.arange(15).view(3, 5)
    order = torch.cat([order[:, :4].flatten(), order[:, 4]])
    whole = whole.view(15, 15)[order][:, order] + damping * torch.eye(15, dtype=torch.float64)
    assert relative(found.rows, torch.linalg.solve(whole, rights.double().T).T) < 1e-5


def test_flat_bias_is_what_the_recursion_leaves() -> None:
    """b(f) against the recursion itself on a flat direction."""
    depth, f = 20_000, 4.2
    u = 1 - (1 - f / depth) ** np.arange(1, depth + 1)
    assert 1 - u[depth // 2 :].mean() == pytest.approx(flat_bias(f), rel=1e-2)
    assert flat_bias(6.7) == pytest.approx(0.01, abs=0.002)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    scale=st.floats(-6, 6), seed=st.integers(0, 99), dead=st.integers(0, P - 1), rank=st.integers(1, P),
    damping=st.floats(-6, 1), batch=st.sampled_from([0, 8, 300]),
)  # fmt: skip
@example(scale=4.0, seed=0, dead=0, rank=2, damping=-6.0, batch=0)  # a damping of 1e-11 of the largest eigenvalue
def test_no_solver_returns_a_number_that_is_not_finite(
    scale: float, seed: int, dead: int, rank: int, damping: float, batch: int
) -> None:
    """Whatever the scale, the batch, dead units and the rank: numbers, or an error that says what to try."""
    factor = curvature(n=300, seed=seed)._factor * math.sqrt(10**scale)
    factor[:, dead] = 0
    factor[rank:] = 0
    right = torch.randn(2, P, generator=torch.Generator().manual_seed(seed))
    right[1] = 0
    solvers = [
        make_solver(name, seed) for name in ("exact", "cg", "preconditioned-lissa", "lanczos", "nystrom", "auto")
    ]
    for solver in (LiSSA(steps=40, batch=batch), LiSSA(steps=40, batch=batch, tolerance=0.1), *solvers):
        try:
            solution = solver.prepare(Dense(factor.float()), 10**damping).solve(right)
        except CurateError as error:
            assert "--damping" in error.hint  # noqa: PT017
            continue
        assert bool(torch.isfinite(solution.rows).all())
        assert bool(torch.isfinite(solution.residual).all())
        assert math.isfinite(solution.error())
        assert float(solution.rows[1].abs().max()) == 0
