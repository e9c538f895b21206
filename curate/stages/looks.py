"""What a picture looks like: a few measures and a small grey picture of it, taken while it is decoded for the network.

Knows pixels only. Which of them are too dark or too alike is for the rules to say.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

SIDE = 32
"""Pixels of a side of the small picture: what the perceptual hash of 64 bits is made of."""
MEASURES = ("width", "height", "dark", "light", "spread", "sharpness")
MEASURED = 256
"""A larger picture is measured at about this shorter side, so that a photo of 12 megapixels costs no more."""
EDGES_AT = 64
"""And its edges at about this one, at which no photo is soft as it is, and what is rounded is no edge."""
WHITE = 255
LEVELS = np.stack([np.arange(WHITE + 1) / WHITE, (np.arange(WHITE + 1) / WHITE) ** 2])
"""The brightness of each value of a pixel, and its square."""
_OF_MEASURES = 4 * len(MEASURES)
BYTES = _OF_MEASURES + SIDE * SIDE


@dataclass(frozen=True)
class PictureLooks:
    """Of each picture, as `look_of` packs them, ``[n BYTES]``."""

    packed: UInt8[Tensor, "n BYTES"]

    def __len__(self) -> int:
        return len(self.packed)

    def taken(self, rows: list[int]) -> "PictureLooks":
        """Those at these places, in this order."""
        return PictureLooks(self.packed[rows])

    def measure(self, name: str) -> Float[np.ndarray, " n"]:
        """One of `MEASURES`, of all pictures.

        `width` and `height` in pixels; the others of brightness, 0 to 1: `dark` is what 99 % of the pixels lie under,
        `light` what 95 % lie over, `spread` the standard deviation. `sharpness` is that of the edges, whatever there is
        beside them: the Laplacian over the gradient, 4.47 if each pixel is drawn by itself, and falling as edges widen.
        """
        place = 4 * MEASURES.index(name)
        column: np.ndarray = self.packed[:, place : place + 4].contiguous().view(torch.float32).numpy()[:, 0]
        return column.astype(float)

    def small(self, rows: list[int] | slice | Int[np.ndarray, " m"] = slice(None)) -> UInt8[np.ndarray, "m SIDE SIDE"]:
        """The small pictures of these rows."""
        found: np.ndarray = self.packed[rows, _OF_MEASURES:].numpy().reshape(-1, SIDE, SIDE)
        return found


def look_of(picture: object) -> UInt8[Tensor, " BYTES"]:
    """The look of a decoded row of the medium `image`: a picture of Pillow, or an array ``[h w]`` or ``[h w c]``."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[:, :, :3] if picture.ndim == 3 and picture.shape[2] > 2 else _flat(picture))
    assert isinstance(picture, Image.Image)
    width, height = picture.size
    grey = _reduced(picture.convert("L"), MEASURED)
    counts = np.array(grey.histogram(), dtype=float)
    share = counts.cumsum()
    low, high = share.searchsorted(np.array([0.05, 0.99]) * share[-1]) / WHITE
    mean, square = (LEVELS @ counts) / share[-1]
    edges = _reduced(grey, EDGES_AT)
    small = np.asarray(edges.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.uint8)
    spread = max(0.0, square - mean**2) ** 0.5
    measures = np.array([width, height, high, low, spread, _sharpness(edges)], dtype=np.float32)
    return torch.from_numpy(np.concatenate([measures.view(np.uint8), small.ravel()]))


def _reduced(grey: Image.Image, side: int) -> Image.Image:
    """By whole pixels, so far that the shorter side is still ``side``."""
    times = min(grey.size) // side
    return grey.reduce(times) if times > 1 else grey


def _flat(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 2 else picture[:, :, 0]


def _sharpness(grey: Image.Image) -> float:
    """Root mean square of the Laplacian over that of the gradient; 0 of a picture too small or too even."""
    pixels = np.asarray(grey, dtype=np.float32)
    if min(pixels.shape) < 3:
        return 0.0
    left, right, above, below = pixels[1:-1, :-2], pixels[1:-1, 2:], pixels[:-2, 1:-1], pixels[2:, 1:-1]
    across, down = right - left, below - above
    curved = left + right
    curved += above
    curved += below
    curved -= 4 * pixels[1:-1, 1:-1]
    gradient = float(np.vdot(across, across) + np.vdot(down, down)) / 4
    return 0.0 if gradient == 0 else (float(np.vdot(curved, curved)) / gradient) ** 0.5


def hashes(small: UInt8[np.ndarray, "n SIDE SIDE"]) -> Bool[np.ndarray, "n 64"]:
    """Perceptual hashes of small pictures, equal to those of the package imagehash (`phash`), of all rows at once.

    The signs, against their median, of the lowest eight by eight of the cosine transform.
    """
    steps = np.cos(np.pi / SIDE * np.outer(np.arange(8), np.arange(SIDE) + 0.5))
    low = (steps @ small.astype(float) @ steps.T).reshape(len(small), -1).round(6)  # an even picture has none
    bits: np.ndarray = low > np.median(low, axis=1, keepdims=True)
    return bits
