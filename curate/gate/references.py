"""What a run is compared with: the baseline, an earlier run, or the newest run of another database.

Knows where each is found and why one is missing; leaves what follows from it to ``judgement``. A run is never compared
with itself: that would always be green.
"""

import os
from pathlib import Path

from curate.errors import StoreError, UsageError
from curate.gate.baseline import Baseline, row_digests
from curate.gate.judgement import Gate, Reference
from curate.settings.merge import BASELINE
from curate.store import Store


class NoReference(UsageError):
    """There is nothing to compare with: never a pass."""


def reference_of(gate: Gate, store: Store, run_id: int, dataset: str) -> Reference | None:
    """What the gate compares the run with; None where it compares with nothing. Raises ``NoReference``."""
    if not gate.compares:
        return None
    option = "--new-only" if gate.new_only else "--changed-rows"
    if gate.since is None:
        return _of_baseline(gate, dataset, option)
    if gate.since.isdecimal():
        earlier = int(gate.since)
        if earlier == run_id:
            raise NoReference(f"--since {earlier} is the run itself", "Name an earlier one: `curate runs`.")
        found = store.query("SELECT status FROM runs WHERE id = ?", [earlier])
        if not found or found[0]["status"] != "finished":
            what = f"is {found[0]['status']}" if found else f"is not in {store.path}"
            raise NoReference(f"--since {earlier}: this run {what}", "Name a finished one: `curate runs`.")
        return _of_run(store, earlier, dataset, f"run {earlier}", changed_rows=gate.changed_rows)
    path = Path(gate.since)
    if path.exists() and os.path.samefile(path, store.path):
        before = run_before(store, run_id, dataset)
        return _of_run(store, before, dataset, "the run before", changed_rows=gate.changed_rows)
    try:
        with Store.open(path) as other:
            name = f"the newest run of {path.as_posix()}"
            return _of_run(other, other.latest_run(dataset), dataset, name, changed_rows=gate.changed_rows)
    except StoreError as error:
        raise NoReference(f"--since {gate.since}: {error.message}", error.hint) from None


def run_before(store: Store, run_id: int, dataset: str) -> int:
    """The newest finished run of the data set before this one. Raises ``NoReference``."""
    (found,) = store.query(
        "SELECT max(r.id) AS id FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id "
        "WHERE d.name = ? AND r.status = 'finished' AND r.id < ?",
        [dataset, run_id],
    )
    if found["id"] is None:
        raise NoReference(
            f"{store.path} holds no finished run of {dataset} before run {run_id}", "Scan the state to compare with."
        )
    return int(found["id"])


def _of_baseline(gate: Gate, dataset: str, option: str) -> Reference:
    baseline = Baseline.read(gate.baseline or BASELINE)
    path = baseline.path.as_posix()
    section = baseline.sections.get(dataset)
    if section is None:
        what = f"{path} says nothing of the data set {dataset}" if baseline.there else f"there is no {path}"
        raise NoReference(
            f"{option} has nothing to compare with: {what}",
            "Accept what stands in the newest run with `curate baseline`, or name --since RUN or DATABASE.",
        )
    if gate.changed_rows and section.rows is None:
        raise NoReference(
            f"--changed-rows: {path} was written without rows",
            "Write it with `curate baseline --rows`, or name --since RUN or DATABASE.",
        )
    return Reference(path, section.fingerprints, section.rows)


def _of_run(store: Store, run_id: int, dataset: str, name: str, *, changed_rows: bool) -> Reference:
    (run,) = store.query(
        "SELECT d.name, r.pruned FROM runs AS r JOIN datasets AS d ON d.id = r.dataset_id WHERE r.id = ?", [run_id]
    )
    if run["name"] != dataset:
        raise NoReference(f"{name} is of {run['name']}, not of {dataset}", "Name a run of the same data set.")
    if changed_rows and run["pruned"]:
        raise NoReference(f"--changed-rows: {name} was pruned, and its rows with it", "Name a run that is whole.")
    found = store.query("SELECT fingerprint FROM findings WHERE run_id = ?", [run_id])
    return Reference(name, frozenset(str(row["fingerprint"]) for row in found), frozenset(row_digests(store, run_id)))
