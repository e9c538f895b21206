"""``curate-baseline.json``: the findings that were accepted, as a file that people review.

Knows the file (sorted, one finding a line, nothing in it that changes by itself) and when an accepted finding is fixed.
Leaves what accepting means for the exit status to ``judgement``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.files import strict_json
from curate.files.reading import read_text
from curate.store import Store, finding_fingerprint, row_digest

SCHEMA_VERSION = 1
FIXED_BELOW = 0.4
"""Suspicion under which an accepted finding counts as fixed. Findings begin above 0.5 as a rule: between the two an
accepted one stays, so that a retrained model does not take it out and bring it back as a new one."""
OF_THE_CUT = 0.8
"""The same, as a share of the suspicion above which a run flags, where that is lower."""


@dataclass(frozen=True, slots=True, order=True)
class Accepted:
    """A finding by what it hangs on: no position, score, time or version."""

    key: str
    rule: str
    label: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Section:
    """What is accepted of one data set; ``rows`` are the digests of its rows then, None if they were left out."""

    findings: frozenset[Accepted] = frozenset()
    rows: frozenset[str] | None = None

    @property
    def fingerprints(self) -> frozenset[str]:
        """Those of the accepted findings."""
        return frozenset(found.fingerprint for found in self.findings)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A file of accepted findings; ``there``: it exists."""

    path: Path
    sections: Mapping[str, Section] = field(default_factory=dict)
    there: bool = False

    @classmethod
    def read(cls, path: str | Path) -> "Baseline":
        """The file, or an empty one if there is none. Raises ``UsageError`` for anything else than a baseline."""
        path = Path(path)
        if not path.exists():
            return cls(path)
        try:
            stored = strict_json.loads(read_text(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path.as_posix()} cannot be read: {error}", _ANEW) from None
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{path.as_posix()}, line {error.lineno}: no valid JSON ({error.msg}); is it half merged?", _ANEW
            ) from None
        except ValueError as error:
            raise UsageError(f"{path.as_posix()}: no valid JSON: {error}", _ANEW) from None
        if not isinstance(stored, dict) or not isinstance(stored.get("schema_version"), int):
            raise UsageError(f"{path.as_posix()} is no baseline of curate", _ANEW)
        if stored["schema_version"] > SCHEMA_VERSION:
            raise UsageError(
                f"{path.as_posix()} was written by a newer version of curate", "Upgrade, or name another --baseline."
            )
        try:
            return cls(path, {str(name): _section(part) for name, part in stored["datasets"].items()}, True)
        except (KeyError, TypeError, AttributeError):
            raise UsageError(f"{path.as_posix()}: an entry is not what curate writes", _ANEW) from None

    def text(self) -> str:
        """The file's text: the same for the same findings, in whatever order they were found."""
        parts = ",\n".join(_section_text(name, self.sections[name]) for name in sorted(self.sections))
        return f'{{\n "schema_version": {SCHEMA_VERSION},\n "datasets": {{\n{parts}\n }}\n}}\n'


@dataclass(frozen=True, slots=True)
class Updated:
    """A new section, and how many findings are new in it, stand there still, are fixed (and were dropped or not)."""

    section: Section
    added: int
    stayed: int
    fixed: int


def accept(store: Store, run_id: int, before: Section, *, update: bool, rows: bool) -> Updated:
    """What stands in the run joins what was accepted; with ``update`` what is fixed since is dropped.

    A run that took a sample (``--limit``) marks nothing as fixed.
    """
    (run,) = store.query(
        "SELECT d.name, json_extract(r.settings, '$.limit') IS NOT NULL AS sampled FROM runs AS r "
        "JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?",
        [run_id],
    )
    now = frozenset(_standing(store, run_id))
    held = frozenset() if run["sampled"] else _fixed(store, run_id, str(run["name"]), before.findings - now)
    found = now | (before.findings - held if update else before.findings)
    seen = None
    if rows:
        seen = frozenset(row_digests(store, run_id)) | (before.rows or frozenset() if run["sampled"] else frozenset())
    return Updated(
        Section(found, seen), added=len(now - before.findings), stayed=len(found & before.findings), fixed=len(held)
    )


def row_digests(store: Store, run_id: int) -> Iterable[str]:
    """Digests of all rows of a run, unreadable ones among them."""
    rows = store.connection.execute(
        "SELECT e.content_sha256, e.label, e.key FROM examples AS e WHERE e.id IN ("
        "SELECT example_id FROM scores WHERE run_id = ?1 UNION SELECT example_id FROM findings WHERE run_id = ?1)",
        [run_id],
    )
    return (row_digest(content, label, key) for content, label, key in rows)


def tell_database(store: Store, dataset: str, section: Section) -> None:
    """Make the view ``current_findings`` call accepted what the file accepts."""
    found = store.query("SELECT id FROM datasets WHERE name = ?", [dataset])
    if not found:
        return
    dataset_id = found[0]["id"]
    known = {
        row["fingerprint"] for row in store.query("SELECT fingerprint FROM accepted WHERE dataset_id = ?", [dataset_id])
    }
    if known != section.fingerprints:  # a database that cannot be written to may be in step already
        store.accept(dataset_id, ((f.fingerprint, f.rule, f.key) for f in sorted(section.findings)))


def _standing(store: Store, run_id: int) -> Iterable[Accepted]:
    rows = store.query(
        "SELECT ifnull(e.key, f.subject || ':' || f.subject_name) AS key, f.rule, e.label, f.fingerprint "
        "FROM findings AS f LEFT JOIN examples AS e ON e.id = f.example_id WHERE f.run_id = ?",
        [run_id],
    )
    return (Accepted(row["key"], row["rule"], row["label"] or "", row["fingerprint"]) for row in rows)


def _fixed(store: Store, run_id: int, dataset: str, gone: frozenset[Accepted]) -> frozenset[Accepted]:
    """Those of accepted findings that this run does not have which are fixed: all but rows that are still suspect."""
    keys = {found.key for found in gone if found.rule == "mislabeled"}
    suspect: set[str] = set()
    rows = store.connection.execute(
        "SELECT e.key, e.content_sha256, e.label FROM scores AS s JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = ? AND s.suspicion >= ?",
        [run_id, _fixed_below(store, run_id)],
    )
    for key, content, label in rows:
        if key in keys:
            suspect.add(finding_fingerprint(dataset, key, content, label, "mislabeled"))
    return frozenset(found for found in gone if found.fingerprint not in suspect)


def _fixed_below(store: Store, run_id: int) -> float:
    told = store.query(
        "SELECT json_extract(detail, '$.cut') AS cut FROM receipts WHERE run_id = ? AND quantity = 'suspicion'",
        [run_id],
    )
    cut = told[0]["cut"] if told else None
    return FIXED_BELOW if cut is None else min(FIXED_BELOW, OF_THE_CUT * float(cut))


_ANEW = "Write it anew with `curate baseline`, or name another --baseline."


def _section(stored: Any) -> Section:
    rows = stored.get("rows")
    return Section(
        frozenset(
            Accepted(str(f["key"]), str(f["rule"]), str(f["label"]), str(f["fingerprint"])) for f in stored["findings"]
        ),
        None if rows is None else frozenset(str(row) for row in rows),
    )


def _section_text(name: str, section: Section) -> str:
    findings = [
        f'{{"key": {_quoted(f.key)}, "rule": {_quoted(f.rule)}, "label": {_quoted(f.label)}, '
        f'"fingerprint": {_quoted(f.fingerprint)}}}'
        for f in sorted(section.findings)
    ]
    parts = [f'   "findings": {_listed(findings)}']
    if section.rows is not None:
        parts.append(f'   "rows": {_listed([_quoted(row) for row in sorted(section.rows)])}')
    return f"  {_quoted(name)}: {{\n" + ",\n".join(parts) + "\n  }"


def _quoted(text: str) -> str:
    """As JSON; signs that could hide what a reviewer reads are escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _listed(lines: list[str]) -> str:
    return "[\n" + ",\n".join(f"    {line}" for line in lines) + "\n   ]" if lines else "[]"
