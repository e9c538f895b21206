"""Small pictures of flagged rows, for those who review them in the database.

Knows size and format; leaves which rows are flagged to the finders.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from curate.errors import UnreadableRow
from curate.settings.media import MediaRoots
from curate.sources import Source

if TYPE_CHECKING:  # it brings torch along
    from curate.stages.forward import Forward

SIDE = 96
"""Pixels of the longer side."""
MOST = 2000
"""Rows that get one, the most suspect first, the rows nearest to one right behind it: each is decoded once more."""


def thumbnails(
    rows: "Forward", ids: Sequence[int], score: Mapping[int, float], roots: MediaRoots | None = None
) -> Iterator[tuple[int, bytes]]:
    """(example id, JPEG) of the flagged rows of a data set of pictures, by place and score; nothing of others.

    Files outside of ``roots`` get none: the database may be shown to people who may not see them.
    """
    if rows.source.media != "image" or rows.source.ready:
        return
    for row in sorted(score, key=lambda row: -score[row])[:MOST]:
        path = rows.source.media_path(rows.indices[row])
        if roots is not None and path is not None and not roots.holds(path):
            continue
        picture = thumbnail(rows.source, rows.indices[row])
        if picture is not None:
            yield ids[row], picture


def thumbnail(source: Source, index: int) -> bytes | None:
    """JPEG of one row; None if it is no picture, or can be read no more."""
    try:
        item = source.read(index)
        picture = _picture(item.decode() if item.small is None else item.small(2 * SIDE))
    except UnreadableRow:
        return None
    return None if picture is None else _jpeg(picture)


def _picture(row: Any) -> Image.Image | None:
    if isinstance(row, Image.Image):
        return row
    array = np.asarray(row)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        return None
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _jpeg(picture: Image.Image) -> bytes:
    small = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    small.thumbnail((SIDE, SIDE))
    out = BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()
