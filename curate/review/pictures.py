"""The place of a picture on the screen: the terminal's own pictures where it has them, else half-blocks.

Knows which terminals can do what, by asking textual-image before the screen is taken; needs the extra ``review``.
"""

import sys

from PIL.Image import Image
from rich.console import Group
from textual.reactive import reactive
from textual.widget import Widget

from curate.reports.halfblocks import half_blocks


class Blocks(Widget):
    """Two pixels a character."""

    image: reactive[Image | None] = reactive(None)

    def render(self) -> Group:
        """The picture in half blocks, as large as there is room."""
        room = self.size
        if self.image is None or not room.width or not room.height:
            return Group()
        return Group(*half_blocks(self.image, room.width, room.height))


def _best() -> type[Widget]:
    if sys.__stdout__ is not None and sys.__stdout__.isatty():
        try:
            from textual_image.widget import Image as Best
            from textual_image.widget import SixelImage, TGPImage

            if issubclass(Best, SixelImage | TGPImage):
                return Best
        except Exception:  # terminals that answer oddly: half-blocks work in them all
            pass
    return Blocks


Picture = _best()
"""A widget with a settable ``image``. Chosen on import: once the screen is taken the terminal cannot be asked."""
