"""Spoilt pictures: blank, dark, bright, blurred, tiny or of an odd shape.

Each has a threshold of its own on what was measured while the pictures were read, so a clean set has no finding. What
more than `COMMON` of a set have in common is how its pictures are, and no fault of theirs.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from curate.process.numbers import percent
from curate.rules.finders.found import Contents, Found
from curate.stages.forward import Forward
from curate.stages.looks import PictureLooks

COMMON = 0.1
EVEN = 0.01
"""Standard deviation of the brightness (0 to 1) under which a picture shows nothing."""
DARK, BRIGHT = 0.15, 0.9
"""Brightness that 99 % of the pixels lie under, and that 95 % lie over. Trial on hymenoptera and CIFAR-10N: no picture
is under 0.23 at the one, and only a placeholder lies over 0.84 at the other."""
BLURRED, MOST_BLURRED = 0.6, 1.2
"""Share of the set's usual sharpness, and sharpness, under which a picture is blurred. Trial on hymenoptera at 256, 128
and 64 pixels, sharp, enlarged, and of low quality, and on CIFAR-10N: no picture is under 0.63 of the usual; of those
blurred by a Gaussian of 4 % of their side 99 % are, and of 2 % nearly all but at 32 pixels."""
TINY = 0.25
"""Share of the usual side, as that of a square of a picture's area."""
LONG, FEWEST = 3.0, 3.0
"""Times the set's usual length over width, and length over width, from which a shape is odd."""


def find_blank(scan: Contents) -> Iterator[Found]:
    """Findings on pictures of one colour."""
    for split, rows, looks in _pictures(scan):
        spread = looks.measure("spread")
        yield from _told(
            split, rows, "blank_picture", spread < EVEN, spread, "it shows nothing: its pixels differ by {}"
        )


def find_dark(scan: Contents) -> Iterator[Found]:
    """Findings on pictures that are nearly black all over."""
    for split, rows, looks in _pictures(scan):
        high = looks.measure("dark")
        broken = (high < DARK) & _shows(looks)
        yield from _told(split, rows, "dark_picture", broken, high, "nearly black: 99 % of it is under {} of white")


def find_bright(scan: Contents) -> Iterator[Found]:
    """Findings on pictures that are nearly white all over."""
    for split, rows, looks in _pictures(scan):
        low = looks.measure("light")
        broken = (low > BRIGHT) & _shows(looks)
        yield from _told(split, rows, "bright_picture", broken, low, "nearly white: 95 % of it is over {} of white")


def find_blurred(scan: Contents) -> Iterator[Found]:
    """Findings on pictures whose edges are far wider than is usual here; a tiny one has too few pixels for edges."""
    for split, rows, looks in _pictures(scan):
        sharp = looks.measure("sharpness")
        usual = float(np.median(sharp))
        broken = (sharp < min(MOST_BLURRED, BLURRED * usual)) & _shows(looks) & (_share_of_side(looks) >= TINY)
        share = sharp / max(usual, 1e-9)
        said = "blurred: its edges are {} as sharp as is usual here"
        yield from _told(split, rows, "blurred_picture", broken, share, said)


def find_tiny(scan: Contents) -> Iterator[Found]:
    """Findings on pictures far smaller than is usual here."""
    for split, rows, looks in _pictures(scan):
        share, usual = _share_of_side(looks), float(np.median(_side(looks)))
        said = f"tiny: a square of its area has sides of {{}} of the usual {usual:.0f} pixels"
        yield from _told(split, rows, "tiny_picture", share < TINY, share, said)


def find_odd(scan: Contents) -> Iterator[Found]:
    """Findings on pictures far longer than wide, or wider than long."""
    for split, rows, looks in _pictures(scan):
        width, height = looks.measure("width"), looks.measure("height")
        ratio = np.maximum(width, height) / np.minimum(width, height)
        broken = (ratio >= FEWEST) & (ratio >= LONG * np.median(ratio))
        said = f"an odd shape: its shorter side is {{}} of the longer, usual here is {percent(1 / np.median(ratio), 0)}"
        yield from _told(split, rows, "odd_shape", broken, 1 / ratio, said)


def _pictures(scan: Contents) -> Iterator[tuple[str, Forward, PictureLooks]]:
    for split, rows in scan.splits.items():
        if rows.looks is not None and len(rows):
            yield split, rows, rows.looks


def _shows(looks: PictureLooks) -> Bool[np.ndarray, " n"]:
    return looks.measure("spread") >= EVEN


def _side(looks: PictureLooks) -> Float[np.ndarray, " n"]:
    """Of a square of each picture's area, pixels."""
    return np.asarray(np.sqrt(looks.measure("width") * looks.measure("height")))


def _share_of_side(looks: PictureLooks) -> Float[np.ndarray, " n"]:
    side = _side(looks)
    return np.asarray(side / np.median(side))


def _told(
    split: str, rows: Forward, rule: str, broken: Bool[np.ndarray, " n"], value: Float[np.ndarray, " n"], why: str
) -> Iterator[Found]:
    """A finding on each row that breaks the rule, unless too many do; ``why`` has a place for the value as a share."""
    if broken.mean() > COMMON and broken.sum() > 1:
        return
    for row in np.flatnonzero(broken).tolist():
        measured = round(float(value[row]), 4)
        yield Found(split, row, rule, "warning", None, why.format(percent(measured)), {"measured": measured})
