"""`curate bench --plant rows`: copies and spoilt rows among the user's own, and what the rules say of them.

Knows how a picture or a text is copied or spoilt, and how a source is lengthened by such rows; leaves finding to the
rules of contents, which see them as a scan would. Nothing is stored.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from curate.errors import UsageError
from curate.process.progress import Progress
from curate.rules.finders import find_all
from curate.rules.finders.found import Contents, Found
from curate.settings.merge import ScanSettings
from curate.sources import Source
from curate.sources.base import Item
from curate.stages.contents import read_contents
from curate.stages.prepare import Data, add_model, by_contents, open_data, read

if TYPE_CHECKING:
    import pyarrow
    from PIL import Image

    from curate.sources.columns import InputColumn

Draw = np.random.Generator
COPY = "near_duplicate"
SHARE, MOST, FEWEST = 0.02, 20, 5
"""Of the rows, so many are planted of each kind: within the tenth beyond which a rule takes a set to be so."""


@dataclass(frozen=True)
class Kind:
    """One way to copy or spoil a row, and the rule that should find it."""

    name: str
    rule: str
    edit: Callable[..., object]
    """Of a picture or text and a generator."""


def _compressed(picture: "Image.Image", draw: Draw) -> "Image.Image":
    from PIL import Image

    file = io.BytesIO()
    picture.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


def _smaller(picture: "Image.Image", draw: Draw) -> "Image.Image":
    return picture.resize((max(1, round(0.6 * picture.width)), max(1, round(0.6 * picture.height))))


def _cropped(picture: "Image.Image", draw: Draw) -> "Image.Image":
    wide, high = 0.05 * picture.width, 0.05 * picture.height
    left, top = draw.random() * wide, draw.random() * high
    return picture.crop(
        (round(left), round(top), round(picture.width - wide + left), round(picture.height - high + top))
    )


def _mirrored(picture: "Image.Image", draw: Draw) -> "Image.Image":
    from PIL import ImageOps

    return ImageOps.mirror(picture)


def _scaled(factors: Sequence[float]) -> Callable[["Image.Image", Draw], "Image.Image"]:
    """Brightness times one of the ``factors``."""

    def edit(picture: "Image.Image", draw: Draw) -> "Image.Image":
        from PIL import ImageEnhance

        return ImageEnhance.Brightness(picture).enhance(float(draw.choice(factors)))

    return edit


def _blank(picture: "Image.Image", draw: Draw) -> "Image.Image":
    from PIL import Image

    return Image.new("RGB", picture.size, tuple(draw.integers(0, 256, 3).tolist()))


def _washed_out(picture: "Image.Image", draw: Draw) -> "Image.Image":
    from PIL import ImageOps

    return ImageOps.invert(_scaled([0.1])(ImageOps.invert(picture), draw))


def _blurred(picture: "Image.Image", draw: Draw) -> "Image.Image":
    from PIL import ImageFilter

    return picture.filter(ImageFilter.GaussianBlur(0.04 * min(picture.size)))


def _tiny(picture: "Image.Image", draw: Draw) -> "Image.Image":
    return picture.resize((max(4, picture.width // 6), max(4, picture.height // 6)))


def _strip(picture: "Image.Image", draw: Draw) -> "Image.Image":
    return picture.crop((0, 0, picture.width, max(4, picture.height // 5)))


def _swapped(text: str, draw: Draw) -> str:
    letters = list(text)
    if len(letters) > 1:
        at = int(draw.integers(len(letters) - 1))
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def _without_a_word(text: str, draw: Draw) -> str:
    words = text.split()
    words.pop(int(draw.integers(len(words))))
    return " ".join(words)


def _with_a_word(text: str, draw: Draw) -> str:
    words = text.split()
    words.insert(int(draw.integers(len(words) + 1)), str(draw.choice(["please", "just", "really", "now"])))
    return " ".join(words)


def _shouted(text: str, draw: Draw) -> str:
    return text.upper() + " !!"


def _signs_alone(text: str, draw: Draw) -> str:
    return str(draw.choice(["...", "??", "-", "!!!"])) + "." * int(draw.integers(1, 9))


def _tagged(text: str, draw: Draw) -> str:
    return f"<p>{text}</p>&nbsp;"


KINDS: dict[str, tuple[Kind, ...]] = {
    "image": (
        Kind("JPEG of quality 50", COPY, _compressed),
        Kind("resized to 60 %", COPY, _smaller),
        Kind("cropped by 5 %", COPY, _cropped),
        Kind("mirrored", COPY, _mirrored),
        Kind("brightness 70 or 130 %", COPY, _scaled([0.7, 1.3])),
        Kind("one colour", "blank_picture", _blank),
        Kind("brightness 10 %", "dark_picture", _scaled([0.1])),
        Kind("washed out", "bright_picture", _washed_out),
        Kind("blurred by 4 % of a side", "blurred_picture", _blurred),
        Kind("a sixth of the size", "tiny_picture", _tiny),
        Kind("a strip of a fifth", "odd_shape", _strip),
    ),
    "text": (
        Kind("capitals and signs", COPY, _shouted),
        Kind("two letters swapped", COPY, _swapped),
        Kind("a word less", COPY, _without_a_word),
        Kind("a word more", COPY, _with_a_word),
        Kind("signs alone", "empty_text", _signs_alone),
        Kind("tags around it", "markup_text", _tagged),
    ),
}
"""By what a source's rows are."""


@dataclass(frozen=True)
class PlantedRow:
    """A row made of row ``of`` of the source."""

    of: int
    kind: Kind
    seed: int

    def edited(self, row: object) -> object:
        """A decoded row, copied or spoilt: the same each time."""
        return self.kind.edit(row, np.random.default_rng(self.seed))


class PlantedSource(Source):
    """The readable rows of a source, and behind them others that are made of some of these as they are read."""

    kind = "planted"

    def __init__(self, source: Source, planted: Sequence[PlantedRow]) -> None:
        self.source, self.planted, self.own = source, planted, readable(source)
        self.media, self.name, self.location, self.classes = source.media, source.name, source.location, source.classes
        self.inputs, self.ready, self.notes = source.inputs, source.ready, source.notes
        rows = [*self.own, *(row.of for row in planted)]
        self.keys = [*(source.keys[row] for row in self.own)]
        self.keys += [f"{source.keys[row.of]}: {row.kind.name}" for row in planted]
        self.labels = [source.labels[row] for row in rows]
        self.label_texts = [source.label_texts[row] for row in rows]
        self.positions = list(range(len(rows)))

    def read(self, index: int) -> Item:
        row = self._planted(index)
        if row is None:
            return self.source.read(self.own[index])
        item = self.source.read(row.of)
        sha256 = hashlib.sha256(f"{item.content_sha256} {row.kind.name}".encode()).hexdigest()
        return Item(sha256, lambda: row.edited(item.decode()))

    def media_path(self, index: int) -> str | None:
        return self.source.media_path(self.own[index]) if self._planted(index) is None else None

    def text(self, index: int) -> str | None:
        row = self._planted(index)
        text = self.source.text(self.own[index] if row is None else row.of)
        return text if row is None or text is None else str(row.edited(text))

    def cells(self, column: "InputColumn") -> "pyarrow.ChunkedArray":
        import pyarrow

        own = self.source.cells(column)
        made = pyarrow.array([self.text(len(self.own) + place) for place in range(len(self.planted))], own.type)
        return pyarrow.chunked_array([*own.chunks, made])

    def _planted(self, index: int) -> PlantedRow | None:
        return None if index < len(self.own) else self.planted[index - len(self.own)]


def readable(source: Source) -> list[int]:
    """The rows that opening the data found nothing against."""
    return [row for row in range(len(source)) if row not in source.malformed]


@dataclass(frozen=True)
class RuleScore:
    """How many rows of one kind were found by the rule that should."""

    rule: str
    kind: str
    planted: int
    found: int


@dataclass(frozen=True)
class RulesBench:
    """Everything that `curate bench --plant rows` found out."""

    rows: int
    """Of the data set itself."""
    scores: tuple[RuleScore, ...]
    besides: dict[str, int]
    """Rows that nothing was done to and that a rule names, false ones and real ones: of every rule that was tried."""


def bench_rows(settings: ScanSettings, progress: Progress) -> RulesBench:
    """Plants rows of every kind among the data set's own, and counts what the rules say of them.

    Raises `UsageError` for rows that are no pictures or texts, and for fewer than can be planted among.
    """
    opened = open_data(settings, progress)
    source = opened.train
    kinds = KINDS.get(source.media)
    if kinds is None:
        raise UsageError(
            f"curate bench --plant rows copies and spoils pictures and texts; {source.name} holds neither",
            "Without it labels are changed, whatever the rows are.",
        )
    rows = len(readable(source))
    count = min(MOST, round(SHARE * rows))
    if count < FEWEST:
        needed = round(FEWEST / SHARE)
        raise UsageError(f"{rows:,} rows are too few to plant others among: it takes {needed}", "Take more rows.")
    planted = _drawn(source, kinds, count, settings.seed)
    lengthened = PlantedSource(source, planted)
    opened = replace(opened, train=lengthened, evaluation=None)
    if by_contents(settings, opened):
        data = read_contents(settings, opened, progress, ())
    else:
        data = read(settings, add_model(settings, opened), progress)
    rules = dict.fromkeys(kind.rule for kind in kinds)
    return _counted(data, find_all(Contents(data), list(rules)), lengthened, kinds)


def _drawn(source: Source, kinds: Sequence[Kind], count: int, seed: int) -> list[PlantedRow]:
    """``count`` rows of each kind, each of another readable row as far as there are so many."""
    draw = np.random.default_rng(seed)
    usable = readable(source)
    if source.media == "text":  # a word less of one word is none
        usable = [row for row in usable if len((source.text(row) or "").split()) > 1]
    order = draw.permutation(usable).tolist()
    return [
        PlantedRow(order[(turn * count + place) % len(order)], kind, int(draw.integers(2**31)))
        for turn, kind in enumerate(kinds)
        for place in range(count)
    ]


def _counted(data: Data, found: list[Found], source: PlantedSource, kinds: Sequence[Kind]) -> RulesBench:
    planted, own = source.planted, len(source.own)
    at = dict(enumerate(data.train.indices))
    named: dict[str, set[int]] = {kind.rule: set() for kind in kinds}
    # A cluster is found if any of its rows is named: the one that stands for it has no finding of its own.
    place = {key: index for index, key in enumerate(source.keys)}
    for each in found:
        if each.row is None or each.split != "train":
            continue
        rows = {at.get(each.row, each.row)}
        if each.rule == COPY and each.name is not None:
            rows.add(place[each.name])
        named[each.rule] |= rows
    hit = Counter(row.kind.name for number, row in enumerate(planted) if own + number in named[row.kind.rule])
    total = Counter(row.kind.name for row in planted)
    # What a spoilt row was made of is its near copy too.
    made_of = {place[source.source.keys[row.of]] for row in planted}
    besides = {
        rule: len({row for row in rows if row < own and not (rule == COPY and row in made_of)})
        for rule, rows in named.items()
    }
    scores = tuple(RuleScore(kind.rule, kind.name, total[kind.name], hit[kind.name]) for kind in kinds)
    return RulesBench(own, scores, besides)
