"""What files a data set lies in, by size and time: files that are as they were need not be read to know their rows.

As `make` and the index of `git` go by. Knows paths only: which kinds of data lie in the files that a spec names, and in
no others, is said here; what a change means is left to `pipeline.unchanged`.
"""

import hashlib
import os
from pathlib import Path

from curate.settings.merge import ScanSettings
from curate.settings.specs import is_address, is_pattern, split_kind
from curate.sources.base import Source
from curate.sources.images import files_within


def stamp(settings: ScanSettings) -> str | None:
    """Names, sizes and times of the files that the settings name; None if a set is no file and no folder."""
    digest = hashlib.sha256()
    for spec in (settings.train, settings.eval):
        if spec is None:
            continue
        location = split_kind(spec)[1]
        if is_address(spec) or is_pattern(location):
            return None
        try:
            place = Path(location)
            for path in files_within(place) if place.is_dir() else [place]:
                facts = path.stat()
                line = f"{path.relative_to(place)}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\n"
                digest.update(os.fsencode(line))
        except OSError:
            return None
        digest.update(b"\0")
    return digest.hexdigest()


def stands_for(source: Source) -> bool:
    """Whether the rows lie in no other files than its location: those of a table may name any."""
    if source.kind == "arrays":
        return Path(source.location).suffix.lower() == ".npz"
    return source.kind == "images" or (source.kind == "table" and source.media in ("text", "record"))
