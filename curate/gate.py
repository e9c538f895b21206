"""The gate: do the findings of a run fail it?

Knows rules and severities and the sentence that ends every report; leaves the exit status to the commands.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from curate.errors import UsageError

RULES = ("mislabeled", "harmful", "conflict", "leak", "unreadable")
SEVERITIES = ("error", "warning", "note")  # from grave to slight
PASSING_STATES = ("accepted", "reviewed")  # a person has spoken on these


class Finding(Protocol):
    """What the gate reads of a group of findings; ``reports.Total`` has it."""

    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def count(self) -> int: ...


class Judged(Protocol):
    """A report, as far as the gate looks at it."""

    @property
    def totals(self) -> Iterable[Finding]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the gate lets the run pass, and the sentence that says so."""

    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Gate:
    """``fail_on``: rules, or a severity (which stands for itself and all above it). Empty: no gate is set."""

    fail_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word in self.fail_on:
            if word not in RULES and word not in SEVERITIES:
                raise UsageError(
                    f"--fail-on {word or repr(word)}: no such rule or severity",
                    f"rules: {', '.join(RULES)}; severities: {', '.join(SEVERITIES)}",
                )

    @classmethod
    def of_settings(cls, stored: dict[str, Any] | None) -> "Gate":
        """The gate as a run stored it."""
        return cls(tuple(stored.get("fail_on") or ())) if stored else cls()

    def settings(self) -> dict[str, Any]:
        """What ``of_settings`` takes back."""
        return {"fail_on": list(self.fail_on)}

    def catches(self, finding: Finding) -> bool:
        """True where a finding of this rule and severity, on which nobody has spoken yet, fails the run."""
        if finding.state in PASSING_STATES:
            return False
        grave = [SEVERITIES.index(word) for word in self.fail_on if word in SEVERITIES]
        return finding.rule in self.fail_on or any(SEVERITIES.index(finding.severity) <= level for level in grave)

    def evaluate(self, report: Judged) -> Outcome:
        if not self.fail_on:
            return Outcome(True, "passed: no gate is set (set one with --fail-on RULE or SEVERITY)")
        caught: dict[str, int] = {}
        for total in report.totals:
            if self.catches(total):
                caught[total.rule] = caught.get(total.rule, 0) + total.count
        gate = f"--fail-on {','.join(self.fail_on)}"
        if caught:
            counts = ", ".join(f"{caught[rule]:,} {rule}" for rule in RULES if rule in caught)
            return Outcome(False, f"failed: {counts} ({gate})")
        return Outcome(True, f"passed: nothing over the gate ({gate})")
