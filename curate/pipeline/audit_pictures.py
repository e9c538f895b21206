"""Thumbnails of drawn rows: most of them were not flagged, so that the scan made none.

Knows how a run's data is found again; rows whose data is not there any more, or is made by code, stay without.
"""

import contextlib

from curate.errors import CurateError
from curate.pipeline.thumbnails import thumbnail
from curate.reports.report import RunFacts
from curate.settings.merge import stored_settings
from curate.settings.specs import split_kind
from curate.sources import open_sets
from curate.sources.limit import limited
from curate.store import Store, audits


def add_thumbnails(store: Store, run: RunFacts) -> None:
    """Add small pictures of the drawn rows, as far as their files are what was scanned."""
    settings = stored_settings(run.settings) if run.settings.get("train") else None
    if settings is None or split_kind(settings.train)[0] == "python":
        return  # code that a database names is not run unasked
    wanted = {
        (row["key"], row["content_sha256"]): row["id"]
        for row in store.query(
            "SELECT e.id, e.key, e.content_sha256 FROM examples AS e WHERE e.thumbnail IS NULL AND e.id IN "
            "(SELECT value FROM json_each(?))",
            [str([example for _, example in audits.shown(store, run.id)])],
        )
    }
    if not wanted:
        return
    with contextlib.suppress(CurateError):
        source, _ = open_sets(settings)
        if settings.limit is not None:
            source = limited(source, settings.limit)
        if source.media != "image" or source.ready:
            return
        place = {key: index for index, key in enumerate(source.keys)}
        found = []
        for (key, content), example in wanted.items():
            with contextlib.suppress(CurateError):
                if key in place and source.read(place[key]).content_sha256 == content:
                    found.append((example, thumbnail(source, place[key])))
        store.set_thumbnails((example, picture) for example, picture in found if picture is not None)
