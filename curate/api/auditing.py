"""An audit of a run: rows drawn, and what the verdicts on them say. For ``curate audit`` and ``Run.audit``.

Knows the order of the steps; leaves drawing and counting to ``curate.audit``.
"""

from curate.audit.drawing import draw
from curate.audit.result import TrainRow, result_of
from curate.audit.telling import AuditTold
from curate.errors import StoreError
from curate.pipeline.audit_pictures import add_thumbnails
from curate.reports.gather import read_run
from curate.store import Store, audits

FIRST = 50
"""Rows drawn where nobody says how many."""


def audit_run(store: Store, run: int, total: int | None, width: float | None, seed: int, *, anew: bool) -> AuditTold:
    """Draw up to ``total`` rows in all, if there are not as many, and say what is known.

    ``width`` is a wanted width of the interval, 0 to 1. Raises ``StoreError`` of a run that did not finish.
    """
    facts, stored = read_run(store, run)
    if facts.status != "finished":
        raise StoreError(f"Run {run} is {facts.status}: its rows are not complete", "Scan again")
    rows = audits.members(store, run)
    begun = audits.newest_series(store, stored["dataset_id"])
    drawn = 0
    if anew or total is not None or not begun:
        drawn = draw(store, run, min(total or FIRST, len(rows)), seed, anew=anew)
        add_thumbnails(store, facts)
    flags = audits.flagged(store, run)
    result = result_of(
        store, stored["dataset_id"], [TrainRow(row.fingerprint, row.label, row.fingerprint in flags) for row in rows]
    )
    assert result is not None
    return AuditTold(
        facts.dataset,
        run,
        audits.newest_series(store, stored["dataset_id"])[0].seed,
        drawn,
        result,
        sum(row.suspicion for row in rows),
        len(flags),
        width,
        None if width is None else result.more_for(width),
    )
