"""One row of a run: its scores, what was found on it, and the rows that help and harm it.

Knows how a row is found by key, by `eval:KEY` or by a path as the shell completes it; leaves layout to
``row_terminal.py``.
"""

import contextlib
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curate.errors import UsageError
from curate.files.reading import read_regular
from curate.reports.gather import harmful_group, read_run
from curate.reports.report import HarmfulGroup, RunFacts
from curate.reports.words import clean
from curate.settings.media import MediaRoots
from curate.settings.specs import plain_text
from curate.store import Store
from curate.store.rows import Row, rows_of

CLOSE_MATCHES = 3
LARGEST_PICTURE = 4_000_000  # bytes of a file that is shown; beyond, the thumbnail is
MOST_KEYS = 200_000  # difflib over more keys takes longer than a person waits
RANKED = ("suspicion", "loss", "self_influence", "harm")  # rank 1 is the highest


@dataclass(frozen=True, slots=True)
class Score:
    """A score of the row; ``rank`` among the ``of`` rows of its split that have this score, 1 the highest."""

    name: str
    value: float
    rank: int | None
    of: int | None


@dataclass(frozen=True, slots=True)
class RowReport:
    """A row and the run that it is of, as `curate show` tells it."""

    run: RunFacts
    row: Row
    scores: tuple[Score, ...]
    group: HarmfulGroup | None  # harmful rows of the same cause, this one among them

    def picture(self) -> bytes | None:
        """The picture's file as it lies in the data's folder, if it still does and is small; else the thumbnail."""
        shown, path = self.run.settings.get("thumbnails") is not False, self.row.media_path
        if shown and path and MediaRoots.of(self.run.settings, self.run.location).holds(path):
            with contextlib.suppress(OSError, ValueError):
                return read_regular(path, LARGEST_PICTURE)
        return self.row.thumbnail

    @classmethod
    def of_key(cls, store: Store, run_id: int, key: str) -> "RowReport":
        """The row of this key; UsageError, with close matches, if the run has none or several."""
        run, _ = read_run(store, run_id)
        (row,) = rows_of(store, run_id, [find(store, run, key)])
        group = harmful_group(store, run_id, row.group, run.counts.get("eval_loss") or None)
        return cls(run, row, tuple(_ranked(store, run_id, row)), group)

    def facts(self) -> dict[str, Any]:
        """For programs: the row under the names that stay."""
        told = {name: getattr(self.row, name) for name in _TOLD}
        told["nearest"] = [{name: getattr(near, name) for name in _OF_NEAR} for near in self.row.nearest]
        return {"run": self.run.id, "dataset": self.run.dataset, **told, "scores": self.scores, "group": self.group}


_TOLD = (
    *("key", "split", "position", "label", "suggested_label", "suggested_probability", "word", "seen", "media_path"),
    *("text", "content_sha256", "fingerprint", "scores", "findings", "verdict", "helps", "harms", "helped_by"),
    *("harmed_by", "nearest"),
)


_OF_NEAR = ("key", "label", "similarity")


def _ranked(store: Store, run_id: int, row: Row) -> Iterator[Score]:
    ranked = {name: value for name, value in row.scores.items() if name in RANKED}
    places = _places(store, run_id, row.split, ranked) if ranked else {}
    for name, value in row.scores.items():
        yield Score(name, value, *places.get(name, (None, None)))


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
            f"{clean(key)} stands for {len(found)} rows of run {run.id}", f"Give the whole key: {shown} ..."
        )
    raise UsageError(f"Run {run.id} of {clean(run.dataset)} has no row {clean(key)}", _close(store, run, key))


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
        return f"Close to it: {', '.join(clean(match) for match in close)}"
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
