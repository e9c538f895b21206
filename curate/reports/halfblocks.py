"""Small pictures in a terminal: two pixels a character, as every terminal with colours can show them.

Knows pixels and cells; leaves where a picture stands to the pages. Imports pillow only when there is one to draw.
"""

import io
import warnings
from typing import TYPE_CHECKING

from rich.color import Color
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from PIL.Image import Image

UPPER = "▀"
"""A cell is about twice as high as wide: hence two pixels, one above the other."""


def opened(content: bytes, largest: int) -> "Image | None":
    """A picture of at most this many pixels a side; None where the bytes are none, or would fill the memory."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content))
            picture.thumbnail((largest, largest))
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def half_blocks(picture: "Image", width: int, height: int) -> list[Text]:
    """The picture in at most ``width`` x ``height`` cells, its proportions kept: one text a line."""
    from PIL.Image import Resampling

    scale = min(width / picture.width, 2 * height / picture.height)
    across, down = max(1, round(picture.width * scale)), max(2, round(picture.height * scale / 2) * 2)
    how = Resampling.NEAREST if scale >= 2 else Resampling.LANCZOS  # a few large pixels are to look like pixels
    pixels = picture.convert("RGB").resize((across, down), how).tobytes()

    def colour(x: int, y: int) -> Color:
        at = 3 * (y * across + x)
        return Color.from_rgb(*pixels[at : at + 3])

    lines = []
    for y in range(0, down, 2):
        line = Text(no_wrap=True)
        for x in range(across):
            line.append(UPPER, Style(color=colour(x, y), bgcolor=colour(x, y + 1)))
        lines.append(line)
    return lines
