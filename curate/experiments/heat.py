"""A heat map beside its picture, as a PNG: red where more light lowers the influence, blue where it raises it.

Knows colours and sizes; leaves the numbers to ``perturb``.
"""

from io import BytesIO

import numpy as np
from jaxtyping import Float
from PIL import Image

LEAST_SIDE = 224
"""Pixels of the shorter side: smaller pictures are enlarged, each pixel staying a square."""
RED, BLUE = np.array([190, 30, 45]), np.array([33, 90, 170])


def heat_png(picture: Float[np.ndarray, "c h w"], gradient: Float[np.ndarray, "c h w"]) -> bytes:
    """The picture as the network reads it, and beside it the gradient, its channels summed."""
    both = np.concatenate([_shown(picture), np.full((picture.shape[1], 1, 3), 255, np.uint8), _map(gradient)], axis=1)
    scale = max(1, -(-LEAST_SIDE // min(both.shape[0], picture.shape[2])))
    image = Image.fromarray(both)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _shown(picture: Float[np.ndarray, "c h w"]) -> np.ndarray:
    """Stretched to the full range: what the network reads is standardised."""
    low, high = float(picture.min()), float(picture.max())
    grey = (picture - low) / max(high - low, 1e-12) * 255
    shown: np.ndarray = np.broadcast_to(grey.transpose(1, 2, 0), (*picture.shape[1:], 3)).round().astype(np.uint8)
    return shown


def _map(gradient: Float[np.ndarray, "c h w"]) -> np.ndarray:
    """White where nothing matters, full colour at the 99.5th percentile of the sizes."""
    values = gradient.sum(0)
    strength = np.clip(np.abs(values) / max(float(np.quantile(np.abs(values), 0.995)), 1e-30), 0, 1)[..., None]
    colour = np.where((values > 0)[..., None], BLUE, RED)
    painted: np.ndarray = (255 + strength * (colour - 255)).round().astype(np.uint8)
    return painted
