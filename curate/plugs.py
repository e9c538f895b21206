"""What can be taken by its name: solvers, curvatures, experts. Plain data, and where each is imported from when used.

Options and their help, receipts' words, the reference page and the laws' parameters are made from these tables: one who
adds an entry has added it everywhere. Knows no torch, so that commands may read it at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Plug:
    """``where`` is "module:name"; ``help`` is one line."""

    where: str
    help: str

    def load(self) -> Any:
        """What ``where`` names; its module is imported now."""
        module, name = self.where.split(":")
        return getattr(import_module(module), name)


@dataclass(frozen=True)
class SolverPlug(Plug):
    """A `Solver` class; it is made with a seed and its settings."""

    error: str = "measured"
    """How far off it is, and whether that is measured."""
    takes: str = ""
    """Time and memory."""
    words: str = ""
    """What a receipt says in a sentence: "It was ..."."""
    settings: Mapping[str, type] = field(default_factory=dict)
    """What ``--solver NAME:SETTING=VALUE`` may set: float, int or bool."""
    preset: Mapping[str, object] = field(default_factory=dict)
    """Settings that the name stands for: it is short for another one with these."""
    replaces: bool = False
    """It solves an easier curvature in place of C: a residual says little of it, its ranks do."""


_LISSA = "curate.engine.solvers.lissa:LiSSA"
_LISSA_SETTINGS = {"tolerance": float, "steps": int, "batch": int, "preconditioned": bool}
_STEP_BY_STEP = "solved step by step by LiSSA, which sees a batch of rows at a time"

SOLVERS: dict[str, SolverPlug] = {
    "auto": SolverPlug(
        "curate.engine.solvers.automatic:Automatic",
        "without `--damping`: layer by layer, as `ekfac`, every row scored, and a third of the answer the probe's; at "
        "a minimum with a known penalty, with `--damping`, and for another curvature by one of the others, chosen by "
        "size and a short look at the spectrum. A note says which and why",
        "as theirs",
    ),
    "exact": SolverPlug(
        "curate.engine.solvers.dual:Exact",
        "exactly, through the rows",
        "none",
        "rows x classes up to 10,000, their gradients up to 1 GiB",
        "solved exactly: nothing in the solve is approximated",
    ),
    "cg": SolverPlug(
        "curate.engine.solvers.cg:ConjugateGradients",
        "preconditioned conjugate gradients",
        "under 1e-4 of the answer, measured",
        "10 to 200 products with all rows",
        "solved by conjugate gradients, until little was left over",
        {"tolerance": float, "steps": int},
    ),
    "lissa": SolverPlug(
        _LISSA,
        "some per cent off; **raises** a damping that its 700 steps cannot solve, and says so",
        "measured on 16 right-hand sides",
        "930 small batches, at any number of rows",
        _STEP_BY_STEP,
        _LISSA_SETTINGS,
    ),
    "lissa-tight": SolverPlug(
        _LISSA,
        "the same, with rounds until the measured error is under half a per cent",
        "measured",
        "two to four times as long",
        settings=_LISSA_SETTINGS,
        preset={"tolerance": 5e-3},
    ),
    "preconditioned-lissa": SolverPlug(
        _LISSA,
        "the same at a small damping; raises it only where 10,000 rows' gradients, or 512 MiB of them, precondition "
        "too little",
        "under half a per cent, measured",
        "batches of 1,024 rows; a sample of the rows' gradients in memory",
        settings=_LISSA_SETTINGS,
        preset={"tolerance": 5e-3, "preconditioned": True},
    ),
    "ekfac": SolverPlug(
        "curate.engine.solvers.approximate:EKFACSolver",
        "layer by layer; fast, a ranking; layers that it does not know are named on the receipt. Without `--damping` "
        "each layer is damped by three tenths of its mean eigenvalue, and every row is scored",
        "with `--damping` measured on four right-hand sides, with the rank correlation of their scores; below 0.5 a "
        "warning",
        "a forward and two backward passes; with `--damping` two passes over up to 8,192 rows",
        replaces=True,
    ),
    "lanczos": SolverPlug(
        "curate.engine.solvers.approximate:Lanczos",
        "128 eigenpairs of C by Lanczos' steps; v / λ outside of them",
        "the same",
        "128 products with all rows",
        settings={"rank": int},
        replaces=True,
    ),
    "nystrom": SolverPlug(
        "curate.engine.solvers.approximate:Nystrom",
        "128 eigenpairs of C by a random sketch; v / λ outside of them",
        "the same",
        "128 products with all rows",
        settings={"rank": int},
        replaces=True,
    ),
}
"""By the name that ``--solver`` takes."""


@dataclass(frozen=True)
class CurvaturePlug(Plug):
    """A class whose ``of(objective, inputs, means, residuals)`` is a `Sampled` operator."""

    words: str


CURVATURES: dict[str, CurvaturePlug] = {
    "ggn": CurvaturePlug(
        "curate.engine.curvature.gauss_newton:GaussNewton",
        "the loss's curvature, the network taken as linear in its parameters",
        "Gauss-Newton",
    ),
    "hessian": CurvaturePlug(
        "curate.engine.curvature.hessian:Hessian", "with the network's own curvature: may be negative", "Hessian"
    ),
    "fisher": CurvaturePlug(
        "curate.engine.curvature.fisher:EmpiricalFisher", "of the rows' own gradients", "empirical Fisher"
    ),
}
"""By the name that ``--curvature`` takes."""


@dataclass(frozen=True)
class ExpertPlug(Plug):
    """A function from `Material` to `Opinion`."""

    of_fitted: bool = False
    """It can be asked about features that a network may have fitted to these labels."""


_EXPERTS = "curate.engine.suspicion.experts"
EXPERTS: dict[str, ExpertPlug] = {
    "probe": ExpertPlug(f"{_EXPERTS}:probe", "softmax probe on rows of one length", of_fitted=True),
    "scaled_probe": ExpertPlug(f"{_EXPERTS}:scaled_probe", "softmax probe on standardised columns"),
    "neighbours": ExpertPlug(f"{_EXPERTS}:neighbours", "votes of the 20 nearest rows by angle", of_fitted=True),
    "euclidean_neighbours": ExpertPlug(f"{_EXPERTS}:euclidean_neighbours", "votes of the 10 nearest rows by distance"),
    "random_features": ExpertPlug(f"{_EXPERTS}:random_features", "ridge regression on random Fourier features"),
}
"""Who is asked about a label: each has a say in suspicion."""


def solver_asked(spec: str) -> tuple[SolverPlug, dict[str, object]]:
    """The entry that ``NAME`` or ``NAME:SETTING=VALUE,...`` means, and the settings. Raises `ValueError`."""
    name, _, text = spec.partition(":")
    if name not in SOLVERS:
        raise ValueError(f"one of {', '.join(SOLVERS)}")
    plug = SOLVERS[name]
    found = dict(plug.preset)
    for part in text.split(",") if text else ():
        key, _, value = part.partition("=")
        kind = plug.settings.get(key)
        if kind is None:
            raise ValueError(f"{name} with {', '.join(plug.settings) or 'no setting'}")
        found[key] = _setting(key, kind, value)
    return plug, found


def _setting(key: str, kind: type, value: str) -> object:
    if kind is bool:
        if value:
            raise ValueError(f"{key} without a value")
        return True
    try:
        number = kind(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise ValueError(f"a {key} above 0")
    return number


def solver_spelled(name: str, settings: Mapping[str, object]) -> str:
    """The name of a solver with these settings, all others being its defaults: short if there is a short one."""
    where = SOLVERS[name].where
    for other, plug in SOLVERS.items():
        if plug.where == where and plug.preset == settings:
            return other
    parts = [key if value is True else f"{key}={value:g}" for key, value in settings.items()]
    return f"{name}:{','.join(parts)}"


def solver_words(name: str) -> SolverPlug | None:
    """The entry of a name as a receipt has it, with settings or without; None of what no ``--solver`` names."""
    return SOLVERS.get(name.partition(":")[0])
