"""Drawing rows for an audit: the first time, and more of them later, also among rows that are new since.

Knows when a new audit begins and when one goes on; leaves who is drawn to ``design`` and what is stored to
``curate.store.audits``.
"""

import numpy as np

from curate.audit.design import allocated, drawn_order, ends_for
from curate.audit.result import Frame, frames_of, shapes_of, stratum_numbers
from curate.errors import UsageError
from curate.store import Store, audits
from curate.store.audits import Member


def draw(store: Store, run_id: int, total: int, seed: int, *, anew: bool = False) -> int:
    """Rows drawn now, so that ``total`` rows of the run are drawn in all. ``anew`` begins a new series.

    Rows of the run that no audit of the series was drawn from become the frame of one more.
    """
    (run,) = store.query("SELECT dataset_id FROM runs WHERE id = ?", [run_id])
    rows = audits.members(store, run_id)
    if not rows:
        raise UsageError(f"Run {run_id} holds no suspicion of training rows, so there is nothing to draw from")
    with store.transaction():
        series = audits.newest_series(store, run["dataset_id"])
        number = series[-1].series if series else 0
        if anew or not series:
            series, number = [], number + 1
        frames = frames_of(store, series)
        taken = {row.fingerprint for frame in frames for row in frame.rows}
        fresh = sum(row.fingerprint not in taken for row in rows)
        if fresh:
            design = {"ends": list(ends_for(fresh))}
            begun = audits.begin(store, run["dataset_id"], series=number, run_id=run_id, seed=seed, design=design)
            frames = frames_of(store, [*series, begun])
        return _draw(store, frames, rows, total, seed)


def _draw(store: Store, frames: list[Frame], rows: list[Member], total: int, seed: int) -> int:
    stratum, shapes = stratum_numbers(frames), shapes_of(frames)
    known = {row.fingerprint for row in rows}
    series = [frame.audit for frame in frames]
    before = {place.fingerprint for place in audits.places(store, series) if place.fingerprint in known}
    strata = shapes.shape[1]
    present = np.bincount([stratum[row.fingerprint] for row in rows], minlength=strata)
    drawn = np.bincount([stratum[fingerprint] for fingerprint in before], minlength=strata)
    more = allocated(shapes, total, present, drawn)
    random = np.random.default_rng([seed, series[-1].series, len(before)])
    # In an order that is that of the content: the run's ranks may tie, and files may be read in another order.
    left = sorted((row for row in rows if row.fingerprint not in before), key=lambda row: row.fingerprint)
    chosen: list[tuple[int, int]] = []
    for number in range(strata):
        mine = [place for place, row in enumerate(left) if stratum[row.fingerprint] == number]
        chosen += [(int(place), number) for place in random.choice(mine, more[number], replace=False)] if mine else []
    order = drawn_order(chosen, random)
    first = 0
    for frame in frames:
        last = first + len(frame.strata.ends)
        mine_shown = [(left[row], number - first + 1, again) for row, number, again in order if first <= number < last]
        audits.draw(store, frame.audit, mine_shown)
        first = last
    return len(chosen)
