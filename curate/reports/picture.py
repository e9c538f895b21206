"""A row's picture as half-blocks of a terminal: two pixels a character, the upper one its colour, the lower its ground.

Knows how a small picture becomes styled text; leaves where it comes from to ``row``. Pillow is imported only when
there is a picture to show.
"""

from io import BytesIO

from rich.text import Text

UPPER_HALF = "▀"
WIDEST = 40
"""Columns of the terminal, at most."""


def half_blocks(picture: bytes, width: int) -> list[Text]:
    """Lines of an encoded picture, at most ``width`` and `WIDEST` columns; none where it cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(picture)) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return []
    columns = min(width, WIDEST)
    scale = min(columns / image.width, columns / image.height)
    size = (max(1, round(image.width * scale)), max(2, round(image.height * scale) // 2 * 2))
    # Enlarged pixels stay sharp; a large picture is averaged.
    image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
    lines = []
    for y in range(0, size[1], 2):
        line = Text()
        for x in range(size[0]):
            upper, lower = (image.getpixel((x, y + half)) for half in (0, 1))
            line.append(UPPER_HALF, f"{_hex(upper)} on {_hex(lower)}")
        lines.append(line)
    return lines


def _hex(pixel: object) -> str:
    assert isinstance(pixel, tuple)
    return "#" + "".join(f"{value:02x}" for value in pixel)
