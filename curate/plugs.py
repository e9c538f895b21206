"""What can be taken by its name: solvers, curvatures, experts, kinds of data, libraries of models, reports. Plain data,
and where each is imported from when used.

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
        "exactly, through the rows, or through the parameters if they are few",
        "none",
        "rows x (classes - 1) up to 10,000, their gradients up to 1 GiB; or up to 8,000 parameters",
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


@dataclass(frozen=True)
class LossPlug(Plug):
    """A function of a `Loss`, given the classes' weights and its settings by their names."""

    settings: Mapping[str, type] = field(default_factory=dict)
    """What ``--loss NAME:SETTING=VALUE,...`` may set; ``weights`` is read by `stages.losses`."""


_TRAINED = "curate.engine.trained_loss"
LOSSES: dict[str, LossPlug] = {
    "softmax": LossPlug(
        f"{_TRAINED}:cross_entropy", "cross-entropy, plain or smoothed", {"weights": str, "smoothing": float}
    ),
    "focal": LossPlug(f"{_TRAINED}:focal", "focal loss, gamma 2", {"weights": str, "gamma": float}),
}
"""What a network may have been trained with, by the name that ``--loss`` takes."""


@dataclass(frozen=True)
class SourcePlug(Plug):
    """A function from a location and `DataOptions` to the training set, and the evaluation set if there is one."""

    spec: str
    """How one is written, the example of ``curate scan --help``."""
    path: bool = False
    """Its location is a file or a folder."""


SOURCES: dict[str, SourcePlug] = {
    "images": SourcePlug(
        "curate.sources.images:open_images",
        "class folders of pictures; with train/ and val/ in it, a training and an evaluation set",
        "photos/",
        path=True,
    ),
    "table": SourcePlug(
        "curate.sources.folders:open_tables",
        "a table: .csv .parquet .jsonl .json, or a folder of them; --label names its column",
        "rows.csv",
        path=True,
    ),
    "arrays": SourcePlug("curate.sources.arrays:open_arrays", "the arrays x and y", "arrays.npz", path=True),
    "hf": SourcePlug("curate.sources.hf:open_hf", "a data set of the library datasets", "hf:FOLDER"),
    "torchvision": SourcePlug(
        "curate.sources.torchvision_data:open_torchvision", "as torchvision has it on disk", "torchvision:NAME"
    ),
    "sklearn": SourcePlug("curate.sources.arrays:open_sklearn", "digits, iris, wine or breast_cancer", "sklearn:NAME"),
    "python": SourcePlug(
        "curate.sources.python_data:open_python",
        "your own code that makes a map-style data set",
        "python:FILE.py:NAME",
    ),
}
"""By the kind that stands before a location."""

_FAMILIES = "curate.models.families"
FAMILIES: dict[str, Plug] = {
    "torchvision": Plug(f"{_FAMILIES}.torchvision:build_torchvision", "a name in torchvision.models"),
    "timm": Plug(f"{_FAMILIES}.timm:build_timm", "a name in timm"),
    "hf": Plug(f"{_FAMILIES}.hf:build_hf", "a folder of transformers, or what its cache holds of an id"),
}
"""Libraries whose models are named ``FAMILY:NAME``: a function from `ModelSpec` to `Built`."""


@dataclass(frozen=True)
class ReportPlug(Plug):
    """A `Renderer` class."""

    readers: str
    """Who reads it."""


REPORTS: dict[str, ReportPlug] = {
    "rich": ReportPlug(
        "curate.reports.terminal:RichReport", "the report with colours; its last line is the gate's sentence", "people"
    ),
    "text": ReportPlug("curate.reports.terminal:TextReport", "the same without colours", "people"),
    "json": ReportPlug(
        "curate.reports.json:JsonReport", "the report as one object", "programs; [JSON Schema](report.schema.json)"
    ),
    "html": ReportPlug("curate.reports.html:HtmlReport", "a gallery of flagged rows as one page", "people"),
    "jsonl": ReportPlug(
        "curate.reports.jsonl:JsonLinesReport", "one finding a line", "programs; `#/$defs/Line` of the same schema"
    ),
    "csv": ReportPlug("curate.reports.csv:CsvReport", "one finding a line, formulas disarmed", "spreadsheets"),
    "markdown": ReportPlug(
        "curate.reports.markdown:MarkdownReport",
        "the findings that count (50 at most) and noise by class",
        "a comment; `GITHUB_STEP_SUMMARY`",
    ),
    "github": ReportPlug(
        "curate.reports.github:GithubReport",
        "`::error file=...,line=...::` for findings that count, ten of each kind; then the sentence",
        "annotations",
    ),
    "gitlab": ReportPlug("curate.reports.gitlab:GitlabReport", "findings that nobody accepted or kept", "Code Quality"),
    "junit": ReportPlug(
        "curate.reports.junit:JunitReport",
        "the gate and each finding as test cases; what does not fail the build is skipped",
        "Jenkins, GitLab",
    ),
    "sarif": ReportPlug(
        "curate.reports.sarif:SarifReport", "SARIF 2.1.0, every finding, at most 5,000 by rank", "code scanning"
    ),
}
"""By the format that ``-f`` takes."""


def solver_asked(spec: str) -> tuple[SolverPlug, dict[str, object]]:
    """The entry that ``NAME`` or ``NAME:SETTING=VALUE,...`` means, and the settings. Raises `ValueError`."""
    name, text = _entry(spec, SOLVERS)
    plug = SOLVERS[name]
    return plug, {**plug.preset, **_settings(name, text, plug.settings)}


def loss_asked(spec: str) -> tuple[LossPlug, dict[str, object]]:
    """The same of a loss."""
    name, text = _entry(spec, LOSSES)
    return LOSSES[name], _settings(name, text, LOSSES[name].settings)


def _entry(spec: str, table: Mapping[str, object]) -> tuple[str, str]:
    name, _, text = spec.partition(":")
    if name not in table:
        raise ValueError(f"one of {', '.join(table)}")
    return name, text


def _settings(name: str, text: str, kinds: Mapping[str, type]) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in text.split(",") if text else ():
        key, _, value = part.partition("=")
        if key not in kinds:
            raise ValueError(f"{name} with {', '.join(kinds) or 'no setting'}")
        found[key] = _setting(key, kinds[key], value)
    return found


def _setting(key: str, kind: type, value: str) -> object:
    if kind is bool:
        if value:
            raise ValueError(f"{key} without a value")
        return True
    if kind is str:
        if not value:
            raise ValueError(f"{key} with a value")
        return value
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
