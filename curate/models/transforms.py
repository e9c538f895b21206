"""From one decoded row to the tensor that the model takes.

Knows the model's own ``transform`` and what stands in for it where there is none. Leaves decoding to the sources, the
default for pictures to ``pictures`` and batches to ``curate.stages.forward``.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from curate.errors import CurateError, ModelError, UnreadableRow
from curate.models.keywords import Layout, called_as
from curate.models.loading import LoadedModel
from curate.models.pictures import default_pictures, takes
from curate.process.frames import first_line, user_frame
from curate.settings.specs import split_code, split_model
from curate.sources.base import Source
from curate.sources.items import Parts
from curate.sources.pixels import as_read

Transform = Callable[[Any], torch.Tensor]


def make_transform(model: LoadedModel | None, source: Source) -> tuple[Transform, list[str]]:
    """(row -> float tensor without a batch axis, notes for the report).

    The model's own transform where it has one; else pictures become [c, h, w] in 0..1 (see ``pictures``), and numeric
    rows float32 as they are. The result raises ``UnreadableRow`` where the person's transform fails on a row,
    ``ModelError`` where it gives no tensor.
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
        return _Ready(model.spec), [said] if model.transform is not None else []
    if model.transform is not None:
        own = split_model(model.spec)[0] is None  # a library's is made for RGB of eight bits
        return _Users(model.transform, model.spec, model.module if own else None), []
    if source.media == "image":
        pictures, note = default_pictures(model.module, source, model.spec)
        return pictures, [note]
    if source.media == "record" and all(column.kind == "number" for column in source.inputs):
        names = [column.name for column in source.inputs]
        return _columns, [f"no transform given: the columns in the order {', '.join(names[:12])}, not scaled"]
    if source.media in ("text", "record"):
        what = "texts" if source.media == "text" else "rows of columns"
        raise ModelError(
            f"{source.location} holds {what}, and {model.spec} has no transform.",
            "Put a `transform` into the model's file that makes a tensor, or a dict of tensors, of one row.",
        )
    return _numbers, []


def _columns(record: Any) -> torch.Tensor:
    missing = [name for name, value in record.items() if value is None]
    if missing:
        raise UnreadableRow(f"{missing[0]} is missing, and the model has no transform that fills it")
    return torch.tensor(list(record.values()), dtype=torch.float32)


def _numbers(sample: Any) -> torch.Tensor:
    if isinstance(sample, torch.Tensor):
        return sample.float()
    return torch.from_numpy(np.array(sample, dtype=np.float32))


class _Ready:
    """Rows that their data set has made into what the model takes. ``layout`` is filled if that is several tensors."""

    def __init__(self, spec: str) -> None:
        self.layout = Layout(spec)

    def __call__(self, sample: Any) -> torch.Tensor:
        if not isinstance(sample, Parts):
            return _numbers(sample)
        if isinstance(sample.given, Mapping):
            return self.layout.pack(sample.given)
        self.layout.by_place = True
        return self.layout.pack({str(place): part for place, part in enumerate(sample.given)})


class _Users:
    """A person's transform, with its failures told by line. ``layout`` is filled where it gives dicts of tensors.

    It is given a picture as its file has it. If it fails on one of this mode, or the network on what it makes of it,
    and neither fails on RGB, it is given RGB, as `torchvision.datasets.ImageFolder` does: the first picture of a mode
    decides.
    """

    def __init__(self, transform: Callable[[Any], Any], spec: str, module: nn.Module | None = None) -> None:
        """``module`` is the network, None: every picture is given as RGB."""
        self.transform, self.spec, self.where = transform, spec, split_code(spec)[0]
        self.layout = Layout(spec)
        self._module = module
        self._as_read: dict[str, bool] = {}

    @property
    def notes(self) -> list[str]:
        """What pictures of other modes than RGB were given as."""
        given = {
            which: [mode for mode, as_is in sorted(self._as_read.items()) if as_is is which] for which in (True, False)
        }
        words = {True: "as they are in their files", False: "as RGB: as they are they do not pass"}
        return [
            f"pictures in {', '.join(modes)} reach the transform {words[which]}"
            for which, modes in given.items()
            if modes
        ]

    @property
    def beyond(self) -> Callable[[str], tuple[int, int]] | None:
        """What says how many tokens of a text the model reads, and how many it does not; None if nothing does."""
        return getattr(self.transform, "beyond", None)

    def __call__(self, sample: Any) -> torch.Tensor:
        if self._module is None or not isinstance(sample, Image.Image):
            return self._made(sample)
        read = as_read(sample)
        if read.mode == "RGB":
            return self._made(sample)
        if read.mode not in self._as_read:
            self._as_read[read.mode] = self._goes(read.pixels, sample)
        return self._made(read.pixels if self._as_read[read.mode] else sample)

    def _goes(self, pixels: Any, rgb: Image.Image) -> bool:
        """Whether the picture as it is in its file goes through, or RGB does not either."""
        assert self._module is not None
        made = []
        for form in (pixels, rgb):
            try:
                made.append(self._made(form))
            except UnreadableRow:
                return form is rgb
        if made[0].shape == made[1].shape:
            return True
        network = called_as(self._module, self)
        return takes(network, made[0][None]) or not takes(network, made[1][None])

    def _made(self, sample: Any) -> torch.Tensor:
        try:
            result = self.transform(sample)
        except CurateError:
            raise
        except Exception as error:
            line = user_frame(error, self.where)
            said = f"the model's transform failed at {line} with {type(error).__name__}: {first_line(error)}"
            raise UnreadableRow(said, f"{line} {type(error).__name__}", f"Mend the transform at {line}.") from error
        if isinstance(result, Mapping):
            return self.layout.pack(result)
        if isinstance(result, tuple | list) and result and all(hasattr(part, "shape") for part in result):
            self.layout.by_place = True  # forward(a, b)
            return self.layout.pack({str(place): part for place, part in enumerate(result)})
        if isinstance(result, np.ndarray):
            result = torch.from_numpy(np.array(result))
        if not isinstance(result, torch.Tensor):
            raise ModelError(
                f"The transform of {self.spec} gave a {type(result).__name__}, not a tensor.",
                f"End it with a step that makes a tensor, in {Path(self.where).name}.",
            )
        # float16 and float64 rows meet float32 weights; whole numbers (token ids) stay as they are
        return result.float() if result.is_floating_point() else result
