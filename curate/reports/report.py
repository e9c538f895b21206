"""Report: everything that a renderer needs about one stored run, as plain frozen data.

Knows what a report says; ``gather.py`` knows how to find it in the database, and the renderers how it looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from curate.gate.judgement import OPINION, Gate, Outcome, Reference
from curate.reports.trusted import Checked
from curate.rules.rule import is_doubted
from curate.store.rows import HitRow

if TYPE_CHECKING:
    from curate.reports.gallery import Gallery
    from curate.reports.sketch import Sketch
    from curate.store import Store


Depth = Literal["quiet", "short", "long"]
"""How much the report for people tells: the summary; findings and what to do; with every reason, note and receipt."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What people said of a rule's findings, over all finished runs; ``precision`` is None where nobody decided."""

    rule: str
    flagged: int
    confirmed: int
    refuted: int
    unsure: int
    precision: float | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What was run, on what, and for how long."""

    id: int
    status: str
    started: str  # ISO 8601, UTC
    finished: str | None
    seconds: float | None
    peak_memory: int | None  # bytes
    dataset: str
    location: str
    kind: str
    model: str | None
    weights_sha256: str | None
    device: str | None
    seed: int
    git_commit: str | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    counts: Mapping[str, Any]
    gate: Gate

    @property
    def processes(self) -> int:
        """How many shared the rows out."""
        return int(self.counts.get("processes", 1))


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one quantity was solved; None where it was not measured or does not apply."""

    quantity: str
    solver: str
    curvature: str | None
    parameters: str | None
    damping_asked: float | None
    damping: float | None
    residual: float | None
    score_error: float | None
    steps: int | None
    seconds: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    rank_stability: Mapping[str, Any] | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MislabeledRow:
    """A row whose label is probably wrong; ``suspicion`` is that probability."""

    key: str
    split: str
    given_label: str | None
    suggested_label: str | None
    suggested_probability: float | None
    suspicion: float | None
    severity: str
    state: str
    why: str
    evidence: Mapping[str, Any]
    text: str | None = None  # the row itself, where it is a text or a record


@dataclass(frozen=True, slots=True)
class SuspectRow:
    """A row that is no finding, among the most suspect of those."""

    key: str
    rank: int
    given_label: str | None
    suggested_label: str | None
    suspicion: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class HarmfulRow:
    """A training row whose leaving out is predicted to lower the mean evaluation loss by ``harm`` nats."""

    key: str
    label: str | None
    harm: float
    share: float | None  # of the mean evaluation loss
    hits: tuple[HitRow, ...]  # hit hardest first; only pairs that the run kept
    text: str | None = None
    flagged: bool = False  # a `harmful` finding; the others are only ranked
    low: float | None = None  # of a finding: 95 % interval over the choice of evaluation rows, nats
    high: float | None = None
    turn_right: int | None = None  # of a finding: evaluation predictions that leaving it out would flip
    turn_wrong: int | None = None
    group: "HarmfulGroup | None" = None  # where several findings have one cause: this row stands for all of them


@dataclass(frozen=True, slots=True)
class HarmfulGroup:
    """Harmful rows near one another, of one given label, taken for one other class: probably one cause."""

    size: int
    given_label: str
    suggested_label: str
    harm: float  # of all of them, nats
    share: float | None  # of the mean evaluation loss
    turn_right: int
    turn_wrong: int
    members: tuple[str, ...]  # keys, most harm first; the first of them only


SHOWN = 50
"""Findings that a text for people lists at the most."""
OWN_SECTION = ("mislabeled", "harmful")
"""Rules whose findings are told with numbers of their own; those of all others are ``OtherFinding``."""


@dataclass(frozen=True, slots=True)
class OtherFinding:
    """A finding of a rule that has no section of its own."""

    rule: str
    severity: str
    state: str
    key: str
    split: str
    label: str | None
    why: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding, for programs: what it is, where it is mended, and whether the gate counts it."""

    rule: str
    severity: str
    key: str
    split: str
    given_label: str | None
    suggested_label: str | None
    suggested_probability: float | None
    suspicion: float | None
    state: str  # new, known, accepted, reviewed: as in the view current_findings
    why: str
    text: str | None
    path: str | None  # of the file to mend, relative to the repository; None where the data has no file
    line: int | None  # from 1; None where the file is no text
    fingerprint: str
    row_fingerprint: str
    row: str  # digest of content and label
    verdict: str | None  # the one in force on the row
    accepted: bool  # the baseline holds it
    before: bool  # an earlier finished run has it
    spared: str = ""  # why the gate does not count it: accepted, kept, known, untouched, worth a look, not asked for

    @property
    def doubted(self) -> bool:
        """It is worth a look, and no more."""
        return is_doubted(self.rule, self.suspicion)

    @property
    def rank(self) -> float:
        """0 to 100, the most urgent highest: suspicion, or what a severity without one stands for."""
        return rank_of(self.rule, self.severity, self.suspicion)


def rank_of(rule: str, severity: str, suspicion: float | None) -> float:
    """The rank of a finding with these facts."""
    if suspicion is not None and rule == "mislabeled":
        return 100 * suspicion
    return {"error": 100.0, "warning": 60.0}.get(severity, 10.0)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of the training rows, by the given labels."""

    label: str
    rows: int
    mislabeled: int
    share: float
    suggested_label: str | None  # the label most often suggested for its mislabeled rows
    expected: float | None  # estimated number of wrong labels among its rows: the sum of their suspicion


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """Training rows of one given label that look like another class."""

    given_label: str
    suggested_label: str
    expected: float  # estimated number of such rows: the sum of the suggested label's probability
    mislabeled: int  # those among them that are flagged


@dataclass(frozen=True, slots=True)
class Total:
    """How many findings have this rule, severity, split and state."""

    rule: str
    severity: str
    split: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class Step:
    """A command to go on with, and what it is for."""

    command: str
    remark: str


@dataclass(frozen=True, slots=True)
class Looks:
    """What the formats of a report show beyond its words, and what they do without."""

    gallery: bool = False  # every flagged row in full
    sketch: bool = False  # what a terminal with colours draws
    listed: bool = True  # all findings; else the first of each kind alone, which saves a second of 30,000


@dataclass(frozen=True, slots=True)
class Report:
    """A run, as told to people and programs. Lists hold the first ``top`` rows; ``totals`` count all."""

    run: RunFacts
    rows: Mapping[str, int]  # scored rows by split
    classes: int
    accuracy_head: float | None
    accuracy_probe: float | None
    eval_loss: float | None  # mean, nats
    receipts: tuple[Receipt, ...]
    warnings: tuple[str, ...]  # what makes the whole run doubtful
    notes: tuple[str, ...]
    mislabeled: tuple[MislabeledRow, ...]  # training rows
    eval_mislabeled: tuple[MislabeledRow, ...]  # rows of a given evaluation set
    suspects: tuple[SuspectRow, ...]  # most suspect training rows below the cut, where the list above is short
    harmful: tuple[HarmfulRow, ...]
    harmful_count: int  # training rows with harm > 0
    others: tuple[OtherFinding, ...]
    by_class: tuple[ClassRow, ...]
    confusions: tuple[ConfusionRow, ...]  # most first; those of one row or more
    totals: tuple[Total, ...]
    reviewed: tuple[Reviewed, ...]  # rules on whose findings somebody spoke
    next: tuple[Step, ...]
    findings: tuple[Finding, ...]  # all of them, the most urgent first
    spared_counts: Mapping[str, int]  # how many are counted ("") and spared, by the reason
    gate: Gate
    reference: Reference | None  # what the gate compared with
    outcome: Outcome
    top: int
    depth: Depth = "short"
    doubted: Mapping[str, int] = field(default_factory=dict)  # mislabeled rows under one half of suspicion, by split
    checked: tuple[Checked, ...] = ()  # what refits said of influence on this model
    gallery: "Gallery | None" = None  # every flagged row in full, where a page of pictures was asked for
    sketch: "Sketch | None" = None  # what a terminal with colours draws, where one may be written to

    @classmethod
    def of_run(
        cls,
        store: "Store",
        run_id: int,
        top: int = 20,
        *,
        gate: Gate | None = None,
        positions: Mapping[tuple[str, str], int] | None = None,
        looks: Looks = Looks(),
    ) -> "Report":
        """The report of a stored run; StoreError where there is no such run.

        ``gate`` is the one that was stored with the run unless another is given; ``positions`` of rows, by split and
        key, are those of the run but for these, if all were looked up anew; ``looks`` are what the formats show of it.
        """
        from curate.reports.gather import gather

        most = None if looks.listed else max(top, SHOWN)
        told = gather(store, run_id, top, gate=gate, positions=positions, most=most)
        if looks.gallery:
            from curate.reports.gallery import CARDS, Gallery

            told = replace(told, gallery=Gallery.of_run(store, run_id, max(top, CARDS)))
        if looks.sketch:
            from curate.reports.sketch import Sketch

            told = replace(told, sketch=Sketch.of_run(store, run_id, told.mislabeled))
        return told

    def at_depth(self, depth: Depth) -> "Report":
        """The same, of which people are told this much."""
        return replace(self, depth=depth)

    @property
    def counted(self) -> tuple[Finding, ...]:
        """Findings that the gate counts; without a gate all that were neither accepted nor kept."""
        return tuple(finding for finding in self.findings if not finding.spared)

    @property
    def opinions(self) -> tuple[Finding, ...]:
        """New findings on rows that the gate's reference knows, which `--new-only` lists and does not count."""
        return tuple(finding for finding in self.findings if finding.spared == OPINION)

    @property
    def unjudged(self) -> bool:
        """No model was named for pictures: nothing but their contents was looked at."""
        return bool(self.run.counts.get("unjudged"))

    @property
    def without_model(self) -> str:
        """What is said in the model's place."""
        return "none: " + (
            "the labels were not judged" if self.unjudged else "the inputs are features, the probe alone is used"
        )

    @property
    def ambiguous(self) -> int:
        """Training rows that are not flagged though most experts favour another label; 0 in runs that do not say."""
        words = self.run.counts.get("words")
        return int(words.get("ambiguous", 0)) if isinstance(words, dict) else 0

    @property
    def cut(self) -> float | None:
        """The suspicion above which a row is a `mislabeled` finding; None in runs that do not say."""
        found = (receipt.detail.get("cut") for receipt in self.receipts if receipt.quantity == "suspicion")
        cut = next(found, None)
        return float(cut) if isinstance(cut, (int, float)) else None

    def count(self, rule: str | None = None, split: str | None = None, severity: str | None = None) -> int:
        """How many findings there are, of a rule, a split or a severity where one is named."""
        return sum(
            total.count
            for total in self.totals
            if rule in (None, total.rule) and split in (None, total.split) and severity in (None, total.severity)
        )
