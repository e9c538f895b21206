# ruff: noqa: F821 - the harness runs this file within its own names
# curate in the harness of a benchmark of peers: run by its bench.py, which defines `peer` and the workload's names.
#
#     CONTENDER=tests/bench/contender.py PYTHON=$(which python) BENCH/run.sh 300 --peer curate-ekfac --task T2 --model S
#
# BENCH is that harness's folder. Each function returns what is timed, from a trained model and tensors in memory to
# scores. The damping is curate's default, a tenth of the mean eigenvalue, unless --opt damping=X is given: `exact`
# answers of the harness are at its own, which --opt own=true takes.
import curate.engine.curvature.head as _head
from curate.engine.curvature.ekfac import EKFAC as _EKFAC
from curate.engine.curvature.gauss_newton import GaussNewton as _GaussNewton
from curate.engine.curvature.head import HeadCurvature as _HeadCurvature
from curate.engine.curvature.objective import Objective as _Objective
from curate.engine.curvature.objective import choose_parameters as _choose_parameters
from curate.engine.curvature.operator import Damped as _Damped
from curate.engine.influence.damping import tenth_of_mean as _tenth_of_mean
from curate.engine.loss import SOFTMAX as _SOFTMAX
from curate.engine.solvers import make_solver as _make_solver
from curate.engine.solvers.cg import ConjugateGradients as _ConjugateGradients
from curate.engine.solvers.cg import descend as _descend
from curate.engine.solvers.lissa import LiSSA as _LiSSA
from curate.process.allocator import keep_freed_memory as _keep_freed_memory

_keep_freed_memory()  # as the command does at its start


class _Rows:
    def __init__(self, x):
        self.x, self.device = x, x.device

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        return self.x[indices]


def _quiet(rows):
    pass


def _problem():
    names = [f"{LAST}.weight", f"{LAST}.bias"] if A.last else _choose_parameters(model, "all")
    objective = _Objective(model, names, lambda output: output)
    with torch.no_grad():
        logits = torch.cat([model(part) for part in xtr.split(500)])
    operator = _GaussNewton(objective, _Rows(xtr), logits.softmax(1))
    own = opt("own", False)
    damping = DAMP if own else opt("damping", None) or _tenth_of_mean(operator, 0)
    return objective, operator, _SOFTMAX.residuals(logits, ytr), damping


def _test_gradients(objective):
    with torch.no_grad():
        return objective.row_gradients(xte, _SOFTMAX.residuals(model(xte), yte))


@peer
def curate_ekfac():
    def go():
        names = [f"{LAST}.weight", f"{LAST}.bias"] if A.last else _choose_parameters(model, "all")
        objective, labels = _Objective(model, names, lambda output: output), F.one_hot(ytr, 10)
        ekfac = _EKFAC.fit_labels(objective, _Rows(xtr), labels)
        damping = DAMP if opt("own", False) else opt("damping", None) or 0.1 * ekfac.mean_eigenvalue()
        own = ekfac.own(_Rows(xtr), labels.float())
        if A.task == "T1":
            return ekfac.self_products(damping, own).numpy()
        return ekfac.products(own, ekfac.solve(_test_gradients(objective), damping)).numpy()

    return go


def _solved_by(name):
    def go():
        objective, operator, weights, damping = _problem()
        solver = _make_solver(name)
        if name == "cg":
            solver = _ConjugateGradients(tolerance=opt("tolerance", 1e-4))
        if name == "preconditioned-lissa":
            solver = _LiSSA(preconditioned=True, tolerance=opt("tolerance", 5e-3))
        solution = solver.prepare(operator, damping).solve(_test_gradients(objective))
        HYP.update(
            residual=float(solution.residual.mean()),
            error=solution.error(),
            used=solution.damping,
            steps=solution.steps,
        )
        parts = [
            objective.row_gradients(xtr[part], weights[part]) @ solution.rows.T for part in torch.arange(n).split(500)
        ]
        return torch.cat(parts).numpy()

    return go


@peer
def curate_head():
    """Of softmax regression alone (T2, S): by steps that its class blocks precondition, for a ranking."""

    def go():
        x = torch.cat([xtr, xtr.new_ones(n, 1)], dim=1)
        tests = torch.cat([xte, xte.new_ones(len(xte), 1)], dim=1)
        with torch.no_grad():
            logits, of_tests = model(xtr), _SOFTMAX.residuals(model(xte), yte)
        curvature = _HeadCurvature(x, logits.softmax(1), x.new_full((x.shape[1],), DAMP))
        _head.MOST_EXACT = 0  # else all of it is inverted
        rights = torch.einsum("tc,td->tcd", of_tests, tests).flatten(1)
        blocks, operator = curvature.factorise(), _Damped(curvature.of_sums(), 0.0)
        solved, steps = _descend(operator, rights, blocks.solve, opt("gain", 0.01), opt("steps", 8))
        HYP.update(residual=float(((rights - operator @ solved).norm(dim=1) / rights.norm(dim=1)).mean()), steps=steps)
        own = _SOFTMAX.residuals(logits, ytr)
        moves = (x @ solved.view(-1, x.shape[1]).T).view(n, len(rights), -1)
        return torch.einsum("ntc,nc->nt", moves, own).numpy()

    return go


@peer
def curate_cg():
    return _solved_by("cg")


@peer
def curate_lissa():
    return _solved_by("lissa")


@peer
def curate_preconditioned_lissa():
    return _solved_by("preconditioned-lissa")


@peer
def curate_nystrom():
    return _solved_by("nystrom")


@peer
def curate_scan():
    """A whole scan, without an evaluation set: suspicion of every row (T1). ``settings`` are JSON."""
    import curate

    settings = json.loads(opt("settings", "{}"))

    numbered = list(zip(xtr.numpy(), ytr.tolist(), map(str, range(n)), strict=True))

    def go():
        with tempfile.TemporaryDirectory() as folder:
            run = curate.scan(numbered, model=model, db=f"{folder}/curate.db", **settings)
            scores = {row["key"]: row["suspicion"] for row in run.scores}
        return np.array([scores[str(row)] for row in range(n)])

    return go
