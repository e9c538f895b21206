"""Pictures for a network that brings no transform: in 0..1, at a size that it takes.

Knows what can be read off a network (channels, sizes that pass) and off the files (their sizes); how the pixels were
normalised in training it cannot know, and the note says so.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from curate.errors import ModelError, UnreadableRow
from curate.sources.base import Source

USUAL_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384)
"""Tried in this order where the data's own size will not do."""
MOST_DECODED = 1_000
"""Rows decoded to learn whether all have one size; files only have their headers read, all of them."""

Size = tuple[int, int]


def default_pictures(module: nn.Module, source: Source, spec: str) -> "tuple[Pictures, str]":
    """(row -> tensor, note). The data's own size if all have one and it passes through ``module``; else a usual one.

    Raises ``ModelError`` for channels that no picture has, and where sizes differ and no usual size passes.
    """
    channels = input_channels(module)
    if channels not in (None, 1, 3):
        raise ModelError(
            f"The first layer of {spec} takes {channels} channels; pictures have 1 or 3.",
            "Put a `transform` into the model's file: it takes a PIL image and gives a tensor.",
        )
    sizes = _sizes(source)
    own = sizes[0] if len(sizes) == 1 else None
    tried = [own] if own else []
    tried += [(side, side) for side in USUAL_SIDES]
    features = _first_linear(module)
    found = next((size for size in tried if _passes(module, _channels(channels, features, size), size)), None)
    if found is None and len(sizes) > 1:
        (w, h), (other_w, other_h) = sizes
        raise ModelError(
            f"The pictures differ in size ({w}x{h}, {other_w}x{other_h}), {spec} has no transform, "
            "and no usual size passes through it.",
            "Put a `transform` into the model's file that resizes as in training.",
        )
    size = found or own or (USUAL_SIDES[0], USUAL_SIDES[0])
    count = _channels(channels, features, size)
    said = "at their own size" if size == own else f"resized on the shorter side and cropped to {size[0]}x{size[1]}"
    colours = "grey" if count == 1 else "RGB"
    return Pictures(count, size), f"no transform given: pictures as {colours} in 0..1, {said}, not normalised"


class Pictures:
    """PIL images or uint8 arrays -> ``[c, h, w]`` in 0..1; other sizes are resized to cover ``size``, and cropped."""

    def __init__(self, channels: int, size: Size) -> None:
        self.channels, self.size = channels, size

    def __call__(self, sample: Any) -> torch.Tensor:
        picture = sample if isinstance(sample, Image.Image) else _picture(sample)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if picture.size != self.size:
            picture = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR)
        values = np.array(picture, dtype=np.float32) / 255
        return torch.from_numpy(values[None] if self.channels == 1 else values.transpose(2, 0, 1).copy())


def input_channels(module: nn.Module) -> int | None:
    """The input channels of the first ``Conv2d``, in the order of registration; None where there is none."""
    return next((layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)


def _first_linear(module: nn.Module) -> int | None:
    return next((layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear)), None)


def _channels(channels: int | None, features: int | None, size: Size) -> int:
    if channels is not None:
        return channels
    return 1 if features == size[0] * size[1] else 3  # no convolution: a network on flattened pixels


def _passes(module: nn.Module, channels: int, size: Size) -> bool:
    parameter = next(module.parameters(), torch.empty(0))
    batch = torch.zeros(2, channels, size[1], size[0], device=parameter.device)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module(batch)
    except Exception:  # a person's code may raise anything on a size that it does not take
        return False
    return True


def _sizes(source: Source) -> list[Size]:
    """The first size, and the first other one where there is one; empty where no row can be read."""
    found: list[Size] = []
    for size in _each_size(source):
        if size not in found:
            found.append(size)
        if len(found) == 2:
            break
    return found


def _each_size(source: Source) -> Iterator[Size]:
    decoded = 0
    for index in range(len(source)):
        path = source.media_path(index)
        if path is not None and Path(path).is_file():
            if size := _in_header(path):
                yield size
        elif decoded < MOST_DECODED:
            decoded += 1
            try:
                sample = source.read(index).decode()
            except UnreadableRow:
                continue
            yield sample.size if isinstance(sample, Image.Image) else (sample.shape[1], sample.shape[0])


def _in_header(path: str) -> Size | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF: lies on its side
                return (picture.height, picture.width) if turned else picture.size
    except Exception:  # an unreadable row is told when it is read
        return None


def _picture(array: Any) -> Image.Image:
    pixels = np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    return Image.fromarray(pixels)
