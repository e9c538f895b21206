"""Which training rows a what-if changes: findings of a stored run, keys, or a file of keys; and their suggested labels.

Knows the database's side of it; leaves the change itself to `what_if`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from curate.errors import UsageError
from curate.files.reading import read_names
from curate.rules.rule import RULES
from curate.settings.specs import did_you_mean, is_file
from curate.stages.prepare import Data
from curate.store import Store


@dataclass(frozen=True)
class Selection:
    """Places of training rows, and the labels suggested for them where that was asked for."""

    rows: Int[Tensor, " m"]
    labels: Int[Tensor, " m"] | None
    words: str
    """`28 of 31 mislabeled findings of run 3`."""


def select(database: Path, data: Data, asked: str, *, relabel: bool) -> Selection:
    """``asked``: rules with commas between, keys with commas between, or a file of keys, one a line.

    Raises `UsageError` where nothing is found, and for a key that no training row has.
    """
    rules = [word.strip() for word in asked.split(",")]
    by_rule = all(word in RULES for word in rules)
    name = data.train.source.name
    run_id, keys, words = None, [], ""
    if by_rule or relabel:
        with Store.open(database) as store:
            run_id = store.latest_run(name)
            suggested = _suggested(store, run_id) if relabel else {}
            if by_rule:
                every = _found(store, run_id, rules)
                # A finding may be worth a look while the given label is still the likelier one.
                keys = [key for key in every if not relabel or suggested.get(key, ("", False))[1]]
                of_all = f" of {len(every):,}" if len(keys) < len(every) else ""
                words = f"{len(keys):,}{of_all} {' and '.join(rules)} findings of run {run_id}"
    if not by_rule:
        keys, words = _named(asked)
    places = {key: place for place, key in enumerate(data.train.keys)}
    for key in keys:
        if key not in places:
            hint = did_you_mean(key, places) or "Give rules, keys with commas between, or a file of keys."
            raise UsageError(f"--rows: no training row is called '{key}'.", hint)
    if not keys:
        raise UsageError(
            f"--rows {asked}: run {run_id} of {name} has no such finding on training rows.",
            "Name rows with --rows KEY,...|FILE.",
        )
    labels = None
    if relabel:
        classes = data.train.source.classes
        for key in keys:
            if suggested.get(key, ("", False))[0] not in classes:
                raise UsageError(f"--rows: run {run_id} suggests no label for {key}.", "Scan the data again first.")
        labels = torch.tensor([classes.index(suggested[key][0]) for key in keys])
    return Selection(torch.tensor([places[key] for key in keys]), labels, words)


def _named(asked: str) -> tuple[list[str], str]:
    if is_file(asked):
        keys = read_names(asked, "--rows")
        return list(dict.fromkeys(keys)), f"{len(set(keys)):,} rows of {asked}"
    keys = list(dict.fromkeys(part.strip() for part in asked.split(",") if part.strip()))
    return keys, keys[0] if len(keys) == 1 else f"{len(keys):,} rows by key"


def _found(store: Store, run_id: int, rules: list[str]) -> list[str]:
    rows = store.query(
        "SELECT DISTINCT e.key FROM findings AS f JOIN examples AS e ON e.id = f.example_id WHERE f.run_id = ? "
        "AND e.split = 'train' AND f.rule IN (SELECT value FROM json_each(?)) AND f.rule <> 'unreadable' "
        "ORDER BY e.key",
        [run_id, json.dumps(rules)],
    )
    return [row["key"] for row in rows]


def _suggested(store: Store, run_id: int) -> dict[str, tuple[str, bool]]:
    """The label suggested for each training row, and whether it is likelier than the given one."""
    rows = store.query(
        "SELECT e.key, s.suggested_label, s.suggested_probability > 1 - s.suspicion AS likelier FROM scores AS s "
        "JOIN examples AS e ON e.id = s.example_id "
        "WHERE s.run_id = ? AND e.split = 'train' AND s.suggested_label IS NOT NULL",
        [run_id],
    )
    return {row["key"]: (row["suggested_label"], bool(row["likelier"])) for row in rows}
