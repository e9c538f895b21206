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
from curate.sources.pixels import AsRead, as_read, header, white_of

USUAL_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384)
"""Tried in this order where the data's own size will not do."""
MOST_DECODED = 1_000
"""Rows decoded to learn whether all have one size; files only have their headers read, all of them."""

DEPTHS_LOOKED_AT = 32
"""Rows that show which value is white if their files do not say it: pictures of floats."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

Size = tuple[int, int]


def default_pictures(module: nn.Module, source: Source, spec: str) -> "tuple[Pictures, str]":
    """(row -> tensor, note). The data's own size if all have one and it passes through ``module``; else a usual one.

    Raises ``ModelError`` for channels that no picture has, and where sizes differ and no usual size passes.
    """
    channels = input_channels(module)
    read = _as_read(source)
    clear = bool(read) and all(one.mode in ("RGBA", "P with transparency", "LA") for one in read)
    if channels not in (None, 1, 3, *([4] if clear else [])):
        raise ModelError(
            f"The first layer of {spec} takes {channels} channels; these pictures have 1 or 3.",
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
    colours = {1: "grey", 3: "RGB", 4: "RGB with transparency"}[count]
    white, depth = _white(read)
    note = f"no transform given: pictures as {colours} in 0..1{depth}, {said}, not normalised"
    return Pictures(count, size, white), note


class Pictures:
    """PIL images or uint8 arrays -> ``[c, h, w]`` in 0..1; other sizes are resized to cover ``size``, and cropped.

    Deeper ones than eight bits keep their depth; ``white`` is their value of 1 if the file does not say it.
    """

    def __init__(self, channels: int, size: Size, white: float = 1.0) -> None:
        self.channels, self.size, self.white = channels, size, white

    def __call__(self, sample: Any) -> torch.Tensor:
        picture = sample if isinstance(sample, Image.Image) else _picture(sample)
        read = as_read(picture)
        if read.deep and isinstance(read.pixels, Image.Image):
            return self._deep(read)
        picture = (read.pixels if self.channels == 4 else picture).convert(MODES[self.channels])
        if picture.size != self.size:
            picture = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR)
        values = np.array(picture, dtype=np.float32) / 255
        return torch.from_numpy(values[None] if self.channels == 1 else values.transpose(2, 0, 1).copy())

    def _deep(self, read: AsRead) -> torch.Tensor:
        values = np.nan_to_num(read.values() / (read.white or self.white)).clip(0, 1)
        picture = Image.fromarray(values)
        if picture.size != self.size:
            picture = ImageOps.fit(picture, self.size, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(picture, dtype=np.float32)).expand(self.channels, -1, -1).contiguous()


def _as_read(source: Source) -> list[AsRead]:
    """Some pictures of the source as their files have them."""
    found = []
    for index in range(0, len(source), max(1, len(source) // DEPTHS_LOOKED_AT)):
        try:
            sample = source.read(index).decode()
        except UnreadableRow:
            continue
        if isinstance(sample, Image.Image):
            found.append(as_read(sample))
    return found


def _white(read: list[AsRead]) -> tuple[float, str]:
    """White of pictures whose files do not say it, and what is said of the depth."""
    deep = [one for one in read if one.deep]
    if not deep:
        return 1.0, ""
    whites = [white_of(one) for one in deep]
    modes = " and ".join(sorted({one.mode for one in deep}))
    said = "as their files say" if all(one.white is not None for one in deep) else "by the largest values"
    return max(whites), f" ({modes}: {max(whites):g} is 1, {said})"


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
    return takes(module, torch.zeros(2, channels, size[1], size[0]))


def takes(module: nn.Module, batch: torch.Tensor) -> bool:
    """Whether the network returns anything for a batch."""
    parameter = next(module.parameters(), torch.empty(0))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module(batch.to(parameter.device))
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
            if size := header(path, _in_header):
                yield size
        elif decoded < MOST_DECODED:
            decoded += 1
            try:
                sample = source.read(index).decode()
            except UnreadableRow:
                continue
            yield sample.size if isinstance(sample, Image.Image) else (sample.shape[1], sample.shape[0])


def _in_header(picture: Image.Image) -> Size:
    turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF: lies on its side
    return (picture.height, picture.width) if turned else picture.size


def _picture(array: Any) -> Image.Image:
    pixels = np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    return Image.fromarray(pixels)
