"""The gate: do the findings of a run fail it?

Knows which findings count, how many are allowed, and the sentence that ends every report. Leaves finding out what
stood before to ``references``, and the process's end to the commands.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from curate.errors import UsageError
from curate.rules.rule import LEAST_ROWS, RULES, SEVERITIES, rule_of, rules_with

# Why a finding does not count; "" if it does.
COUNTED, ACCEPTED, KEPT, KNOWN, UNTOUCHED, NOT_ASKED = "", "accepted", "kept", "known", "untouched", "not asked for"
PREVIEW = "preview"
"""Of a rule that is new in this version: a severity does not ask for it, its name does."""
DOUBTFUL = "worth a look"
"""The row's own label is still the likelier one: the rule's name does not ask for it, a severity does."""
SETTLED = (ACCEPTED, KEPT, DOUBTFUL)
"""Of these code scanning has nothing to ask anybody."""
OPINION = "old row, new opinion"
"""The finding is new and the row is not: another model, other rows beside it, or another version of curate."""
ESTIMATE = "estimate:"
"""Before a noise rate: the bare estimate is compared, whatever range it has."""
SURE = 0.95


class Judgeable(Protocol):
    """What the gate reads of a finding; ``reports.Finding`` has it."""

    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def accepted(self) -> bool: ...
    @property
    def verdict(self) -> str | None: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def row(self) -> str: ...
    @property
    def doubted(self) -> bool: ...
    @property
    def spared(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Reference:
    """What stood before: fingerprints of findings, and of rows (``store.row_digest``) if it knows them."""

    name: str
    findings: frozenset[str]
    rows: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class ClassNoise:
    """Rows of one given label, and the number of wrong labels among them: estimated, and between what.

    Without a range anything is possible, from none of them to all.
    """

    label: str
    rows: int
    expected: float
    low: float = 0.0
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What was scanned. ``fresh``: rows that the reference does not know; None if that is not asked."""

    rows: int
    fresh: int | None = None
    noise: tuple[ClassNoise, ...] = ()
    whole: tuple[float, float] | None = None
    """Of all these rows' wrong labels the least and the most, if a range is known; narrower than the classes' sum."""
    source: str = ""
    """Who says so: labels, noise rate or audit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the gate lets the run pass, the sentence that says so, and the exit status that goes with it."""

    status: int
    sentence: str
    found: int = 0
    allowed: int | None = None  # None: findings are not counted
    spared: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """The exit status is 0."""
        return self.status == 0


@dataclass(frozen=True, slots=True)
class Gate:
    """``fail_on``: rules, or a severity (which stands for itself and all above it). All empty: no gate is set."""

    fail_on: tuple[str, ...] = ()
    max_findings: str | None = None  # "20", or "1.5%" of the rows
    max_noise_rate: tuple[str, ...] = ()  # "5%", "class:5%", "class:NAME:5%"; "estimate:" before it
    new_only: bool = False
    changed_rows: bool = False
    since: str | None = None  # a run, or a database; None: the baseline
    baseline: str | None = None

    def __post_init__(self) -> None:
        for word in self.fail_on:
            if word not in RULES and word not in SEVERITIES:
                raise UsageError(
                    f"--fail-on {word or repr(word)}: no such rule or severity",
                    f"Rules: {', '.join(RULES)}; severities: {', '.join(SEVERITIES)}",
                )
        if self.since is not None and not self.compares:
            raise UsageError(
                f"--since {self.since} says what to compare with, but not what counts",
                "Add --new-only (new findings) or --changed-rows (findings on new rows).",
            )
        if not self.fail_on and (self.max_findings is not None or self.compares):
            object.__setattr__(self, "fail_on", ("error",))

    @classmethod
    def of_settings(cls, stored: Mapping[str, Any] | None) -> "Gate":
        """The gate as a run stored it, or as settings (their attributes as a mapping) ask for it."""
        found = stored or {}
        return cls(
            fail_on=tuple(found.get("fail_on") or ()),
            max_findings=found.get("max_findings"),
            max_noise_rate=tuple(found.get("max_noise_rate") or ()),
            new_only=bool(found.get("new_only")),
            changed_rows=bool(found.get("changed_rows")),
            since=found.get("since"),
            baseline=found.get("baseline"),
        )

    @property
    def asks_labels(self) -> bool:
        """Whether it counts what only a judgement of the labels finds; a run without one cannot pass it."""
        return bool(self.max_noise_rate) or any(
            word not in RULES or not RULES[word].of_contents for word in self.fail_on
        )

    def settings(self) -> dict[str, Any]:
        """What ``of_settings`` takes back."""
        return {
            "fail_on": list(self.fail_on),
            "max_findings": self.max_findings,
            "max_noise_rate": list(self.max_noise_rate),
            "new_only": self.new_only,
            "changed_rows": self.changed_rows,
            "since": self.since,
            "baseline": self.baseline,
        }

    @property
    def is_set(self) -> bool:
        """Something can fail it: a rule or severity of findings, or a noise rate."""
        return bool(self.fail_on or self.max_noise_rate)

    @property
    def compares(self) -> bool:
        """A reference is needed."""
        return self.new_only or self.changed_rows

    def spares(self, finding: Judgeable, reference: Reference | None) -> str:
        """Why a finding does not count, or "" if it does."""
        if finding.verdict == "keep":
            return KEPT
        if finding.accepted:
            return ACCEPTED
        if self.is_set and not self._asks_for(finding):
            return PREVIEW if rule_of(finding.rule).preview else NOT_ASKED
        if reference is not None and self.new_only:
            if finding.fingerprint in reference.findings:
                return KNOWN
            if finding.row in (reference.rows or ()):
                return OPINION
        if reference is not None and self.changed_rows and finding.row in (reference.rows or ()):
            return UNTOUCHED
        if self.is_set and finding.doubted and not self._asks_for_severity(finding):
            return DOUBTFUL
        return COUNTED

    def _asks_for(self, finding: Judgeable) -> bool:
        if finding.rule in self.fail_on or rule_of(finding.rule).preview:
            return finding.rule in self.fail_on
        return self._asks_for_severity(finding)

    def _asks_for_severity(self, finding: Judgeable) -> bool:
        grave = [SEVERITIES.index(word) for word in self.fail_on if word in SEVERITIES]
        return any(SEVERITIES.index(finding.severity) <= level for level in grave)

    def judge(self, findings: Sequence[Judgeable], tally: Tally, reference: Reference | None = None) -> Outcome:
        """The outcome, of findings whose ``spared`` is set. A reference that is needed must be there."""
        spared: dict[str, int] = {}
        for finding in findings:
            if finding.spared:
                spared[finding.spared] = spared.get(finding.spared, 0) + 1
        if tally.rows == 0:
            return Outcome(5, "failed: nothing was scanned, so nothing can pass")
        if not self.is_set:
            also = f"; {_spared(spared)}" if spared else ""
            return Outcome(0, f"passed: no gate is set (set one with --fail-on RULE or SEVERITY){also}", spared=spared)
        if self.max_noise_rate and not tally.noise and tally.fresh is None:
            return Outcome(4, "failed: the run holds no suspicion of training rows, so their noise rate is not known")
        allowed = self._allowed(tally.rows) if self.fail_on else None
        counted = [finding for finding in findings if not finding.spared]
        over = allowed is not None and len(counted) > allowed
        rates = [self._rate(text, tally) for text in self.max_noise_rate]
        parts = [] if allowed is None else [f"{_found(counted)}{self._where(tally, reference)}, {allowed:,} allowed"]
        parts += [rate.sentence for rate in rates]
        told = [f"{' and '.join(parts)} ({self.asked()})", f"not counted: {_spared(spared)}"]
        states = {rate.state for rate in rates} | ({OVER} if over else set())
        status = 1 if OVER in states else 4 if UNDECIDED in states else 0
        return Outcome(
            status, f"{STATES[status]}: {'; '.join(told)}", found=len(counted), allowed=allowed, spared=spared
        )

    def asked(self) -> str:
        """The gate as options."""
        parts = [f"--fail-on {','.join(self.fail_on)}"] if self.fail_on else []
        parts += [f"--max-findings {self.max_findings}"] if self.max_findings is not None else []
        parts += [f"--max-noise-rate {rate}" for rate in self.max_noise_rate]
        parts += ["--new-only"] if self.new_only else []
        parts += ["--changed-rows"] if self.changed_rows else []
        parts += [f"--since {self.since}"] if self.since is not None else []
        return " ".join(parts)

    def _allowed(self, rows: int) -> int:
        if self.max_findings is None:
            return 0
        if self.max_findings.endswith("%"):
            # 2 % of 150 rows are 3; binary fractions would make it 2
            return int(round(float(self.max_findings[:-1]) * rows / 100, 9))
        return int(self.max_findings)

    def _where(self, tally: Tally, reference: Reference | None) -> str:
        if reference is None:
            return f" in {tally.rows:,} rows"
        new = " new" if self.new_only else ""
        if self.changed_rows:
            fresh = f" on the {tally.fresh or 0:,} of {tally.rows:,} rows that are new or changed"
            return f"{new}{fresh} since {reference.name}"
        count = "" if tally.fresh is None else f" ({tally.fresh:,} of {tally.rows:,} rows new)"
        return f"{new} since {reference.name}{count or f' in {tally.rows:,} rows'}"

    def _rate(self, text: str, tally: Tally) -> "_Rate":
        """One noise rate that was asked for: what is said of it, and whether it is over its limit."""
        bare = text.startswith(ESTIMATE)
        scope, _, limit = text.removeprefix(ESTIMATE).rpartition(":")
        allowed = float(limit.removesuffix("%")) / 100
        if scope == "class":
            return _of_classes(tally, allowed, limit, bare)
        name = scope.removeprefix("class:")
        rows = [row for row in tally.noise if not scope or row.label == name]
        if scope and not rows and tally.fresh is None:
            raise UsageError(f"--max-noise-rate {text}: no training row has the label '{name}'")
        whole = rows[0] if scope and rows else _whole(name, rows, tally)
        what = f"estimated noise {f'of {name} ' if scope else ''}{_told(whole)}"
        state = _state(whole, allowed, bare)
        return _Rate(state, f"{what}{_range(whole, bare)}, {limit} allowed{_settled(state, whole, allowed, tally)}")


PASSED, OVER, UNDECIDED = "passed", "over", "undecided"
STATES = {0: "passed", 1: "failed", 4: "undecided"}


@dataclass(frozen=True, slots=True)
class _Rate:
    state: str
    sentence: str


def _whole(name: str, rows: Sequence[ClassNoise], tally: Tally) -> ClassNoise:
    count, expected = sum(row.rows for row in rows), sum(row.expected for row in rows)
    low, high = tally.whole or (0.0, count)
    return ClassNoise(name, count, expected, low, min(high, count))


def _of_classes(tally: Tally, allowed: float, limit: str, bare: bool) -> _Rate:
    """The limit for every class of `LEAST_ROWS`: over if one is, undecided if one may be."""
    judged = [row for row in tally.noise if row.rows >= LEAST_ROWS]
    if not judged:
        return _Rate(PASSED, f"no class has five rows, {limit} a class allowed")
    states = {row.label: _state(row, allowed, bare) for row in judged}
    worst = max(judged, key=lambda row: (states[row.label] == OVER, states[row.label] == UNDECIDED, share_of(row)))
    state = states[worst.label]
    beyond = sum(one == OVER for one in states.values())
    open_ones = sum(one == UNDECIDED for one in states.values())
    more = f", {beyond} classes over" if beyond > 1 else ""
    more += f", {open_ones} classes undecided" if open_ones > 1 else ""
    said = f"noisiest class '{worst.label}' {_told(worst)}{_range(worst, bare)}{more}, {limit} a class allowed"
    return _Rate(state, said + _settled(state, worst, allowed, tally))


def _state(row: ClassNoise, allowed: float, bare: bool) -> str:
    """Within the limit or over it for sure; undecided if what is known of it reaches over the limit from below."""
    if not row.rows:
        return PASSED
    if bare:
        return OVER if share_of(row) > allowed else PASSED
    high = row.rows if row.high is None else row.high
    return OVER if row.low / row.rows > allowed else PASSED if high / row.rows <= allowed else UNDECIDED


def fewest_verdicts(allowed: float) -> int:
    """On rows drawn at random, none of them wrong, that show with 95 % that no more than this share is wrong."""
    return math.ceil(math.log(1 - SURE) / math.log(1 - allowed)) if 0 < allowed < 1 else 0


def _settled(state: str, row: ClassNoise, allowed: float, tally: Tally) -> str:
    """What could settle an undecided rate."""
    if state != UNDECIDED:
        return ""
    few = min(fewest_verdicts(allowed), row.rows)
    if not few:
        return ": not known"
    if tally.source == "audit":
        return ": not known from the audit yet, more verdicts settle it (`curate audit --width`)"
    return f": not known, and {few:,} verdicts of `curate audit` at the least settle it, if none of them is wrong"


def _range(row: ClassNoise, bare: bool) -> str:
    if bare or not row.rows:
        return ""
    high = row.rows if row.high is None else row.high
    low_share, high_share = 100 * row.low / row.rows, 100 * high / row.rows
    return "" if low_share == high_share else f" ({low_share:.2f} to {high_share:.2f} %)"


def share_of(row: ClassNoise) -> float:
    """The estimated share of wrong labels."""
    return row.expected / row.rows if row.rows else 0.0


def _told(row: ClassNoise) -> str:
    return f"{100 * share_of(row):.2f} % of {row.rows:,} labels"


def _found(counted: Iterable[Judgeable]) -> str:
    by_rule: dict[str, int] = {}
    for finding in counted:
        by_rule[finding.rule] = by_rule.get(finding.rule, 0) + 1
    names = [rule.name for rule in rules_with(by_rule) if rule.name in by_rule]
    return ", ".join(f"{by_rule[name]:,} {name}" for name in names) or "no finding"


def _spared(spared: Mapping[str, int]) -> str:
    """Accepted and kept ones are always told, so that nothing is hidden by silence."""
    told = [f"{spared.get(ACCEPTED, 0):,} accepted", f"{spared.get(KEPT, 0):,} kept by a verdict"]
    told += [f"{spared[KNOWN]:,} known"] if spared.get(KNOWN) else []
    told += [f"{spared[UNTOUCHED]:,} on untouched rows"] if spared.get(UNTOUCHED) else []
    told += [f"{spared[DOUBTFUL]:,} only worth a look"] if spared.get(DOUBTFUL) else []
    told += [f"{spared[PREVIEW]:,} of rules in preview"] if spared.get(PREVIEW) else []
    opinions = spared.get(OPINION, 0)
    if opinions:
        told.append("1 new opinion of an old row" if opinions == 1 else f"{opinions:,} new opinions of old rows")
    return ", ".join(told)
