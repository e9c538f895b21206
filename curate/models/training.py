"""What a checkpoint tells of its training's pictures: their size, and how they were normalised.

torchvision's reference script and timm's keep their options beside the weights (`args`), Lightning the model's
arguments (`hyper_parameters`). A checkpoint of weights alone tells nothing.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETTINGS = ("args", "hyper_parameters", "hparams", "config", "cfg")
"""Keys of a checkpoint under which trainers keep what they were told."""
SIZES = ("val_crop_size", "crop_size", "img_size", "image_size", "input_size", "imgsz")
"""The pixels of a side, the likelier word first."""
RESIZED = ("val_resize_size", "resize_size")
"""The shorter side before the middle is cut out."""
LEAST, MOST = 8, 4096
"""Pixels of a side that a network could have been trained on."""


@dataclass(frozen=True)
class AsTrained:
    """None where the checkpoint does not say."""

    size: int | None = None
    resized: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    where: str = ""
    """The key that said it."""

    @property
    def note(self) -> str | None:
        """What was taken from the checkpoint, for the report."""
        parts = [f"pictures of {self.size} pixels"] if self.size is not None else []
        parts += ["their mean and std"] if self.mean is not None else []
        return f"{' and '.join(parts)}, as the checkpoint's '{self.where}' say" if parts else None


def as_trained(checkpoint: object) -> AsTrained:
    """What the options that a trainer left in its checkpoint say of the pictures."""
    if not isinstance(checkpoint, Mapping):
        return AsTrained()
    for key in SETTINGS:
        kept = checkpoint.get(key)
        said = vars(kept) if isinstance(kept, argparse.Namespace) else kept
        if not isinstance(said, Mapping):
            continue
        size, resized = _side(said, SIZES), _side(said, RESIZED)
        mean, std = _numbers(said.get("mean")), _numbers(said.get("std"))
        both = mean is not None and std is not None and len(mean) == len(std)
        if size is not None or both:
            return AsTrained(size, resized, mean if both else None, std if both else None, key)
    return AsTrained()


def _side(said: Mapping[Any, Any], names: Sequence[str]) -> int | None:
    """The first of these that is a number of pixels; of ``(channels, height, width)`` the side of a square."""
    for name in names:
        value = said.get(name)
        if isinstance(value, (list, tuple)) and value and len(set(value[-2:])) == 1:
            value = value[-1]
        if isinstance(value, int) and not isinstance(value, bool) and LEAST <= value <= MOST:
            return value
    return None


def _numbers(value: object) -> tuple[float, ...] | None:
    """One number a channel."""
    if not isinstance(value, (list, tuple)) or len(value) not in (1, 3):
        return None
    return tuple(map(float, value)) if all(isinstance(one, (int, float)) for one in value) else None
