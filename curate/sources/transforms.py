"""From one decoded row to the tensor that the model takes.

Knows the model's own ``transform`` and a plain default where there is none. Leaves decoding to the sources and
batches to ``curate.forward``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from curate.errors import ModelError, UnreadableRow
from curate.sources.base import Source
from curate.sources.code import first_line, user_frame
from curate.sources.models import LoadedModel
from curate.specs import split_code

Transform = Callable[[Any], torch.Tensor]


def make_transform(model: LoadedModel | None, source: Source) -> tuple[Transform, list[str]]:
    """(row -> float tensor without a batch axis, notes for the report).

    The model's own transform where it has one; else pictures become [c, h, w] in 0..1 at their own size, c read off
    the first convolution, and numeric rows float32 as they are. The result raises ``UnreadableRow`` where the
    person's transform fails on a row, ``ModelError`` where it gives no tensor or pictures differ in size.
    """
    if model is None:
        if source.media in ("features", "record", "text"):  # the last two are encoded by now
            return _numbers, []
        what = "pictures" if source.media == "image" else "rows of more than one dimension"
        raise ModelError(
            f"{source.location} holds {what}, and no model says what to see in them.",
            "Give --model file.py:factory and --weights FILE, or features (an .npz with one row of numbers each).",
        )
    if source.ready:
        said = "the data set gives tensors: the model's own transform was not applied to them"
        return _numbers, [said] if model.transform is not None else []
    if model.transform is not None:
        return _users(model.transform, model.spec), []
    if source.media != "image":
        return _numbers, []
    channels = input_channels(model.module)
    if channels not in (None, 1, 3):
        raise ModelError(
            f"The first layer of {model.spec} takes {channels} channels; pictures have 1 or 3.",
            "Put a `transform` into the model's file: it takes a PIL image and gives a tensor.",
        )
    said = {1: "grey", 3: "RGB"}.get(channels or 0, "grey or RGB as the first layer takes")
    note = f"no transform given: pictures as {said} in 0..1, at their own size, not normalised"
    return _Pictures(channels, _first_linear(model.module), model.spec), [note]


def input_channels(module: nn.Module) -> int | None:
    """The input channels of the first ``Conv2d``, in the order of registration; None where there is none."""
    return next((layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)


def _first_linear(module: nn.Module) -> int | None:
    return next((layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear)), None)


def _numbers(sample: Any) -> torch.Tensor:
    if isinstance(sample, torch.Tensor):
        return sample.float()
    return torch.from_numpy(np.array(sample, dtype=np.float32))


class _Pictures:
    """PIL images or uint8 arrays -> [c, h, w] in 0..1; every picture must have the size of the first."""

    def __init__(self, channels: int | None, features: int | None, spec: str) -> None:
        self.channels, self.features, self.spec = channels, features, spec
        self.size: tuple[int, int] | None = None

    def __call__(self, sample: Any) -> torch.Tensor:
        picture = sample if isinstance(sample, Image.Image) else _picture(sample)
        if self.size is None:
            self.size = picture.size
        elif picture.size != self.size:
            (w, h), (first_w, first_h) = picture.size, self.size
            raise ModelError(
                f"The pictures differ in size ({first_w}x{first_h}, {w}x{h}) and {self.spec} has no transform.",
                "Put a `transform` into the model's file that resizes as in training.",
            )
        channels = self.channels
        if channels is None:  # no convolution: a network on flattened pixels
            channels = 1 if self.features == picture.width * picture.height else 3
        values = np.array(picture.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
        return torch.from_numpy(values[None] if channels == 1 else values.transpose(2, 0, 1).copy())


def _picture(array: Any) -> Image.Image:
    pixels = np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    return Image.fromarray(pixels)


def _users(transform: Callable[[Any], Any], spec: str) -> Transform:
    where = split_code(spec)[0]

    def call(sample: Any) -> torch.Tensor:
        try:
            result = transform(sample)
        except Exception as error:
            raise UnreadableRow(
                f"the model's transform failed at {user_frame(error, where)} with "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        if isinstance(result, np.ndarray):
            result = torch.from_numpy(np.array(result))
        if not isinstance(result, torch.Tensor):
            raise ModelError(
                f"The transform of {spec} gave a {type(result).__name__}, not a tensor.",
                f"End it with a step that makes a tensor, in {Path(where).name}.",
            )
        # float16 and float64 rows meet float32 weights; whole numbers (token ids) stay as they are
        return result.float() if result.is_floating_point() else result

    return call
