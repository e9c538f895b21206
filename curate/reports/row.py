"""One row of a run: its scores, what was found on it, and the rows that help and harm it.

Knows how a row is found by key, by `eval:KEY` or by a path as the shell completes it; leaves layout to
``row_terminal.py``.
"""

import contextlib
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curate.errors import UsageError
from curate.files.reading import read_regular
from curate.reports.gather import HITS, harmful_group, hits, read_run
from curate.reports.report import HarmfulGroup, HitRow, RunFacts
from curate.reports.words import clean
from curate.settings.media import MediaRoots
from curate.settings.specs import plain_text
from curate.store import Store

STRONGEST = 2 * HITS - 1
CLOSE_MATCHES = 3
LARGEST_PICTURE = 4_000_000  # bytes of a file that is shown; beyond, the thumbnail is
MOST_KEYS = 200_000  # difflib over more keys takes longer than a person waits
RANKED = ("suspicion", "loss", "self_influence", "harm")  # rank 1 is the highest
SCORES = (*RANKED, "margin", "neighbour_agreement", "given_probability", "suggested_probability")


@dataclass(frozen=True, slots=True)
class Score:
    """A score of the row; ``rank`` among the ``of`` rows of its split that have this score, 1 the highest."""

    name: str
    value: float
    rank: int | None
    of: int | None


@dataclass(frozen=True, slots=True)
class RowFinding:
    rule: str
    severity: str
    state: str
    why: str
    evidence: Mapping[str, Any]

    @property
    def shown(self) -> Mapping[str, Any]:
        """The evidence without neighbours and group, which have places of their own."""
        return {name: value for name, value in self.evidence.items() if name not in ("nearest", "group")}


@dataclass(frozen=True, slots=True)
class NearRow:
    """A training row near to this one in feature space; ``similarity`` is the cosine."""

    key: str
    label: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word that counts on the row; ``words`` are those of all reviewers."""

    verdict: str
    new_label: str | None
    reviewer: str
    note: str | None
    time: str
    words: str
    disagreement: int


@dataclass(frozen=True, slots=True)
class RowReport:
    """What is known of one row. For a training row ``helps`` and ``harms`` are evaluation rows, else the reverse."""

    run: RunFacts
    key: str
    split: str
    position: int
    label: str | None
    suggested_label: str | None
    suggested_probability: float | None
    word: str | None
    seen: bool | None
    media_path: str | None
    text: str | None
    content_sha256: str
    fingerprint: str
    scores: tuple[Score, ...]
    findings: tuple[RowFinding, ...]
    verdict: Verdict | None
    helps: tuple[HitRow, ...]  # training row: evaluation rows it helps most
    harms: tuple[HitRow, ...]
    helped_by: tuple[HitRow, ...]  # evaluation row: training rows that help it most
    harmed_by: tuple[HitRow, ...]
    nearest: tuple[NearRow, ...]  # of flagged training rows only
    group: HarmfulGroup | None  # harmful rows of the same cause, this one among them
    thumbnail: bytes | None  # JPEG, of flagged pictures

    def picture(self) -> bytes | None:
        """The picture's file as it lies in the data's folder, if it still does and is small; else the thumbnail."""
        shown = self.run.settings.get("thumbnails") is not False
        if shown and self.media_path and MediaRoots.of(self.run.settings, self.run.location).holds(self.media_path):
            with contextlib.suppress(OSError, ValueError):
                return read_regular(self.media_path, LARGEST_PICTURE)
        return self.thumbnail

    @classmethod
    def of_key(cls, store: Store, run_id: int, key: str) -> "RowReport":
        """The row of this key; UsageError, with close matches, where the run has none or several."""
        run, _ = read_run(store, run_id)
        example_id = find(store, run, key)
        (example,) = store.query("SELECT * FROM named_examples WHERE id = ?", [example_id])
        found = store.query("SELECT * FROM scores WHERE run_id = ? AND example_id = ?", [run_id, example_id])
        scored = found[0] if found else {}
        verdicts = store.query(
            "SELECT verdict, new_label, reviewer, note, time, words, disagreement FROM verdicts WHERE fingerprint = ?",
            [example["fingerprint"]],
        )
        findings = tuple(_findings(store, run_id, example_id))
        evidence = [finding.evidence for finding in findings]
        near = next((found["nearest"] for found in evidence if found.get("nearest")), ())
        group = next((found["group"] for found in evidence if found.get("group")), None)
        eval_loss = run.counts.get("eval_loss") or None
        return cls(
            run=run,
            key=example["key"],
            split=example["split"],
            position=example["position"],
            label=example["label"],
            suggested_label=scored.get("suggested_label"),
            suggested_probability=scored.get("suggested_probability"),
            word=scored.get("word"),
            seen=None if example["seen"] is None else bool(example["seen"]),
            media_path=example["media_path"],
            text=example["text"],
            content_sha256=example["content_sha256"],
            fingerprint=example["fingerprint"],
            scores=tuple(_scores(store, run_id, example["split"], scored)),
            findings=findings,
            verdict=Verdict(**verdicts[0]) if verdicts else None,
            helps=hits(store, run_id, example_id, harmful=False, limit=STRONGEST),
            harms=hits(store, run_id, example_id, harmful=True, limit=STRONGEST),
            helped_by=_hit_by(store, run_id, example_id, harmful=False),
            harmed_by=_hit_by(store, run_id, example_id, harmful=True),
            nearest=tuple(NearRow(**row) for row in near),
            group=harmful_group(store, run_id, group, eval_loss),
            thumbnail=example["thumbnail"],
        )


def _scores(store: Store, run_id: int, split: str, scored: dict[str, Any]) -> list[Score]:
    values = {name: scored[name] for name in SCORES if scored.get(name) is not None}
    ranked = {name: value for name, value in values.items() if name in RANKED}
    places = _places(store, run_id, split, ranked) if ranked else {}
    return [Score(name, value, *places.get(name, (None, None))) for name, value in values.items()]


def _places(store: Store, run_id: int, split: str, values: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """Rank of each value among the scores of its split, and how many there are.

    In one pass over the run. Training rows are all of them without the evaluation rows, which an index knows: a look
    at each row's split would take ten times as long.
    """
    counts = ", ".join(
        f"count(*) FILTER (WHERE s.{name} > :{name}) AS {name}_before, count(s.{name}) AS {name}_all" for name in values
    )
    parameters = {**values, "run": run_id}
    (evaluation,) = store.query(
        f"SELECT {counts} FROM runs AS r CROSS JOIN examples AS e ON e.dataset_id = r.dataset_id AND e.split = 'eval' "
        "CROSS JOIN scores AS s ON s.run_id = r.id AND s.example_id = e.id WHERE r.id = :run",
        parameters,
    )
    counted = evaluation
    if split == "train":
        (whole,) = store.query(f"SELECT {counts} FROM scores AS s WHERE s.run_id = :run", parameters)
        counted = {name: count - evaluation[name] for name, count in whole.items()}
    return {name: (counted[f"{name}_before"] + 1, counted[f"{name}_all"]) for name in values}


def _findings(store: Store, run_id: int, example_id: int) -> list[RowFinding]:
    rows = store.query(
        "SELECT rule, severity, state, why, evidence FROM run_findings WHERE run_id = ? AND example_id = ? "
        "ORDER BY instr('error warning note', severity), rule",
        [run_id, example_id],
    )
    return [RowFinding(**{**row, "evidence": json.loads(row["evidence"])}) for row in rows]


def _hit_by(store: Store, run_id: int, eval_id: int, *, harmful: bool) -> tuple[HitRow, ...]:
    sign, order = ("<", "ASC") if harmful else (">", "DESC")
    rows = store.query(
        "SELECT e.key, e.label, i.influence FROM influences AS i "
        "JOIN named_examples AS e ON e.id = i.train_example_id "
        f"WHERE i.run_id = ? AND i.eval_example_id = ? AND i.influence {sign} 0 "
        f"ORDER BY i.influence {order} LIMIT ?",
        [run_id, eval_id, STRONGEST],
    )
    return tuple(HitRow(**row) for row in rows)


_OF_RUN = (
    "(EXISTS (SELECT 1 FROM scores AS s WHERE s.run_id = :run AND s.example_id = e.id) "
    "OR EXISTS (SELECT 1 FROM findings AS f WHERE f.run_id = :run AND f.example_id = e.id))"
)


def find(store: Store, run: RunFacts, key: str) -> int:
    """The id of the row that a person means. A key wins over a path, a training row over an evaluation row."""
    given, key = key, plain_text(key)  # a shell hands over the bytes of a name that is no UTF-8
    found = _by_keys(store, run, [key])
    plain = key.removeprefix("eval:")
    if plain != key:
        found = [row for row in _by_keys(store, run, [plain]) if row["split"] == "eval"] or found
    if not found:
        found = _by_path(store, run, given)
    if not found:
        found = _by_end(store, run, key)
    # One key may have several versions of content or label in a run only where the splits differ.
    if len(found) > 1 and len({row["plain_key"] for row in found}) == 1:
        found = [row for row in found if row["split"] == "train"] or found[:1]
    if len(found) == 1:
        return int(found[0]["id"])
    if found:
        shown = ", ".join(clean(row["key"]) for row in found[:CLOSE_MATCHES])
        raise UsageError(
            f"{clean(key)} stands for {len(found)} rows of run {run.id}", f"give the whole key: {shown} ..."
        )
    raise UsageError(f"run {run.id} of {clean(run.dataset)} has no row {clean(key)}", _close(store, run, key))


def _by_keys(store: Store, run: RunFacts, keys: list[str]) -> list[dict[str, Any]]:
    return store.query(
        f"SELECT e.id, e.key, e.plain_key, e.split, e.media_path FROM named_examples AS e "
        f"WHERE e.plain_key IN (SELECT value FROM json_each(:keys)) AND e.dataset = :dataset AND {_OF_RUN} "
        "ORDER BY length(e.plain_key) DESC, e.split DESC",
        {"run": run.id, "dataset": run.dataset, "keys": json.dumps(keys)},
    )


def _by_path(store: Store, run: RunFacts, path: str) -> list[dict[str, Any]]:
    """A key is the path from the data root: some end of a path that the shell completed."""
    parts = PurePosixPath(plain_text(path).replace("\\", "/")).parts
    ends = ["/".join(parts[start:]) for start in range(1, len(parts))]
    if not ends:
        return []
    found = _by_keys(store, run, ends)
    same = [row for row in found if row["media_path"] and _same_path(row["media_path"], path)]
    return same or [row for row in found if row["plain_key"] == found[0]["plain_key"]]


def _same_path(stored: str, given: str) -> bool:
    # `resolve` where only one of them goes through a link; a file that is gone still compares by name.
    try:
        return Path(stored).resolve() == Path(given).resolve()
    except (OSError, ValueError, RuntimeError):  # longer than a path may be, or a loop of links
        return False


def _by_end(store: Store, run: RunFacts, end: str) -> list[dict[str, Any]]:
    """Keys that end in what was given: a bare file name is enough where it stands for one row."""
    return store.query(
        f"SELECT e.id, e.key, e.plain_key, e.split, e.media_path FROM named_examples AS e "
        f"WHERE substr(e.plain_key, -length(:end)) = :end AND e.dataset = :dataset AND {_OF_RUN} "
        "ORDER BY e.key",
        {"run": run.id, "dataset": run.dataset, "end": "/" + end.strip("/")},
    )


def _close(store: Store, run: RunFacts, key: str) -> str:
    rows = store.query(
        f"SELECT e.key FROM named_examples AS e WHERE e.dataset = :dataset AND {_OF_RUN} ORDER BY e.key LIMIT :most",
        {"run": run.id, "dataset": run.dataset, "most": MOST_KEYS},
    )
    keys = [row["key"] for row in rows]
    close = _closest(key, keys)
    if close:
        return f"close to it: {', '.join(clean(match) for match in close)}"
    return f"keys look like {clean(keys[0])}" if keys else "this run holds no row"


def _closest(key: str, keys: list[str]) -> list[str]:
    near = difflib.SequenceMatcher(b=key)
    length = len(key)
    likely = []
    for other in keys:
        near.set_seq1(other)
        if abs(len(other) - length) <= max(length, 8) and near.real_quick_ratio() > 0.6 and near.quick_ratio() > 0.6:
            likely.append(other)
            if len(likely) >= 2000:
                break
    return difflib.get_close_matches(key, likely, CLOSE_MATCHES, 0.6)
