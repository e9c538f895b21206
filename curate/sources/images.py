"""A folder of class folders (``images:``): one file a row, the folder's name is the label.

Knows the layout (class folders, train/ and val|valid|test/ above them), file names and pixels.
Leaves tensors to ``transforms``; rows that cannot be read are named here and judged in ``curate.pipeline.story``.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from curate.errors import DataError, NothingScanned, UnreadableRow, UsageError
from curate.files.reading import read_regular
from curate.settings.specs import listed_names, near_path, plain_text
from curate.sources import labels
from curate.sources.base import DataOptions, Item, Source
from curate.sources.others import way_of_folder
from curate.sources.pixels import TIFF, banded_rgb, told_frames, unwarned, upright_rgb
from curate.sources.splits import split_folders

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".jpx", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".icns", ".pcx", ".dds", ".qoi"),
        *(".avif", ".avifs", ".heic", ".heif", ".jxl"),
    }
)
"""Endings of pictures. Some need a package beside Pillow: a row of such a kind is then unreadable, and not left out."""
PLUGINS = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl"}
BESIDE = frozenset(
    {
        *(".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".html", ".yaml", ".yml", ".ini", ".db", ".lnk", ".url"),
        *(".npy", ".npz"),
    }
)
"""Endings of what may lie beside pictures, one for each of them too."""
LITTER = frozenset(
    {"@eadir", "__macosx", "__pycache__", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
)
"""Folders that systems and network drives leave behind: no classes."""
DEEPEST = 3
"""Folders that hold nothing but one folder, gone into at most."""
MOST_OTHERS = 0.05
"""Share of the files that are neither pictures nor lie beside them up to which they are only told."""
LFS_REASON = "a Git LFS pointer, not the file itself: run `git lfs pull`"


def is_lfs_pointer(head: bytes) -> bool:
    """Do these first bytes belong to a Git LFS pointer file?"""
    return head.startswith(b"version https://git-lfs")


class ImageFolder(Source):
    """Rows sorted by POSIX path; keys are paths relative to ``root``, which may lie above the class folders.

    Classes are sorted as text, as ``torchvision.datasets.ImageFolder`` does: the order most models were trained in.
    """

    kind: ClassVar[str] = "images"
    media = "image"
    by_threads = True

    def __init__(self, folder: Path, root: Path, location: str, options: DataOptions) -> None:
        self.location = location
        self.name = options.name or _folder_name(root)
        others: Counter[tuple[str, str]] = Counter()
        pattern = None if options.label is None else _label_pattern(options.label)
        found = sorted(
            (_text(path.relative_to(root).as_posix()), label(path), path)
            for holder, label in _labelled(folder, root, pattern)
            for path in _images(holder, others)
        )
        if not found:
            raise _nothing(folder)
        classes_there = {path.relative_to(folder).parts[0] for _, _, path in found}
        told = {label for label, _ in others}
        empty = [] if pattern is not None else sorted({_text(c.name) for c in _folders(folder)} - classes_there - told)
        self.notes = [
            *_told_others(others, classes_there, len(found), location),
            *told_frames(path for _, _, path in found),
            *([f"folders without a picture are no classes: {listed_names(empty)}"] if empty else []),
        ]
        self.keys = [key for key, _, _ in found]
        self._paths = [path for _, _, path in found]
        texts = [label for _, label, _ in found]
        if pattern is not None and not any(texts):
            raise DataError(
                f"--label {options.label}: no path holds it, the first is {self.keys[0]}.",
                "It is a regular expression over paths in the folder; its group is the label.",
            )
        classes = options.classes if options.classes is not None else sorted({text for text in texts if text})
        encoded = labels.encode(texts, folder.as_posix(), classes, evaluation=options.evaluation, names=self.keys)
        self.classes, self.labels, self.label_texts = encoded.classes, encoded.indices, encoded.texts
        self.positions = list(range(len(found)))

    def read(self, index: int) -> Item:
        try:
            content = read_regular(self._paths[index])
        except OSError as error:
            raise UnreadableRow(f"cannot be opened: {error.strerror or error}") from error
        if not content:
            raise UnreadableRow("the file is empty")
        if is_lfs_pointer(content[:64]):
            raise UnreadableRow(LFS_REASON)
        return item_of(content, self._paths[index].suffix)

    def media_path(self, index: int) -> str | None:
        return _text(self._paths[index].as_posix())

    def file(self, index: int) -> Path:
        return self._paths[index]


def open_images(location: str, options: DataOptions) -> tuple[Source, Source | None]:
    """The training set, and the evaluation set where the folder holds train/ and val|valid|test/."""
    named = {"--input": options.input, "--id": options.id, "--split": options.split}
    if options.label is not None and "(" not in options.label:
        named["--label"] = options.label
    for option, value in named.items():
        if value is not None:
            raise UsageError(
                f"{option} names an array or a column, but {location} is a folder of class folders.",
                f"Leave out {option}: the pictures are the input, the folders the labels, the paths the keys. "
                "Labels in the names of files: --label with a regular expression, as '([a-z]+)[^/]*$'.",
            )
    root = Path(location)
    if not root.exists():
        raise DataError(f"There is no file or folder {location}.", near_path(root))
    if not root.is_dir():
        raise DataError(
            f"{location} is a file; `images:` reads a folder with one folder for each class.",
            "Give the folder, or an .npz file with arrays.",
        )
    _refuse_boxes(root)
    folder = root if options.label is not None else inner_folder(root, options.classes or ())
    train, held_out = _splits(folder) if options.label is None else _named_splits(root)
    training = ImageFolder(train or folder, root, location, options)
    if folder != root:
        said = f"the class folders were found in {folder.relative_to(root).as_posix()}/"
        training.notes = [said, *training.notes]
    if train is None or held_out is None:
        return training, None
    asked = DataOptions(label=options.label, classes=tuple(training.classes), name=training.name, evaluation=True)
    return training, ImageFolder(held_out, root, location, asked)


def _named_splits(root: Path) -> tuple[Path | None, Path | None]:
    """train/ and the first of val, valid, test ...; files below them have their labels in their names."""
    train, held_out = split_folders(_folders(root))
    return (train, next(iter(held_out), None)) if train is not None else (None, None)


def inner_folder(root: Path, classes: Sequence[str] = ()) -> Path:
    """The folder of class folders: one alone in another, as archives unpack (`photos/photos/train/cat`), is gone into.

    A folder named as one of the ``classes`` is one.
    """
    for _ in range(DEEPEST):
        inside = [child for child in _folders(root) if _holds_images(child)]
        if len(inside) != 1 or _has_own_images(root) or inside[0].name in classes or not _holds_classes(inside[0]):
            return root
        root = inside[0]
    return root


def _label_pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--label {text}: no regular expression: {error}.") from error
    if pattern.groups != 1:
        raise UsageError(f"--label {text}: one group is needed, the label.", "As in '([a-z]+)[^/]*$'.")
    return pattern


def _labelled(
    folder: Path, root: Path, pattern: re.Pattern[str] | None
) -> Iterator[tuple[Path, Callable[[Path], str | None]]]:
    """Folders of pictures, each with what tells their labels: the folder's name, or a pattern over paths."""
    if pattern is not None:

        def named(path: Path) -> str | None:
            found = pattern.search(_text(path.relative_to(root).as_posix()))
            return found[1] if found is not None else None

        yield folder, named
        return
    for holder in _folders(folder):
        yield holder, partial(_folders_name, _text(holder.name))


def _folders_name(name: str, _: Path) -> str:
    return name


def layout(root: Path) -> tuple[Path | None, Path | None, int]:
    """(training, evaluation, classes): the folders of class folders as ``open_images`` takes ``root``; (None, None, 0)
    where it holds none."""
    train, held_out = _splits(root)
    folder = train or root
    if not _holds_classes(folder):
        return None, None, 0
    return folder, held_out, sum(_holds_images(child) for child in _folders(folder))


def _refuse_boxes(root: Path) -> None:
    """The layouts of YOLO, Pascal VOC and COCO: pictures beside a folder of boxes or masks."""
    folders = {child.name.lower(): child for child in _folders(root)}
    for pictures, boxes, endings in (
        ("images", "labels", {".txt"}),
        ("images", "annotations", {".json", ".xml"}),
        ("jpegimages", "annotations", {".xml"}),
        ("images", "masks", SUFFIXES),
    ):
        if {pictures, boxes} == set(folders) & {pictures, boxes} and any(
            file.suffix.lower() in endings for file in folders[boxes].rglob("*")
        ):
            what = "segmentation" if boxes == "masks" else "object detection"
            found = f"{folders[pictures].name}/ and {folders[boxes].name}/"
            raise DataError(f"{root.as_posix()} holds {found}: this looks like {what}.", labels.SCOPE)


def _splits(root: Path) -> tuple[Path | None, Path | None]:
    """train/ and the first of val, valid, test ... that holds class folders; (None, None) where these are classes.

    A data set may have classes called "train" and "test": splits hold class folders, classes hold pictures.
    """
    folders = _folders(root)
    train, held_out = split_folders(folders)
    if train is None or not _holds_classes(train):
        return None, None
    if not held_out and any(_holds_images(other) for other in folders if other != train):
        return None, None
    return train, next((folder for folder in held_out if _holds_classes(folder)), None)


def _holds_classes(folder: Path) -> bool:
    return not _has_own_images(folder) and any(_holds_images(child) for child in _folders(folder))


def _has_own_images(folder: Path) -> bool:
    return any(_is_image(child) for child in folder.iterdir())


def _holds_images(folder: Path) -> bool:
    return next(_images(folder), None) is not None


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not _is_litter(child.name))


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _images(folder: Path, others: "Counter[tuple[str, str]] | None" = None) -> Iterator[Path]:
    """Pictures in a folder, in order; ``others`` counts what is none, by the folder's name and the ending."""
    for path in files_within(folder):
        if _is_image(path):
            yield path
        elif others is not None and not path.name.startswith("."):
            others[_text(folder.name), _text(path.suffix.lower())] += 1


def files_within(folder: Path) -> Iterator[Path]:
    """All files of a folder and of those in it, in order, but for what tools leave there."""
    seen: set[str] = set()  # a link may lead back up
    for here, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not _is_litter(name))
        yield from (Path(here, name) for name in sorted(files))


def _told_others(others: "Counter[tuple[str, str]]", classes: set[str], pictures: int, location: str) -> list[str]:
    """A note on files that are no pictures. Raises ``DataError`` if they are so many that rows are missing.

    ``classes`` are the folders with pictures in them; one without any is no class, whatever it holds.
    """
    if not others:
        return []
    told = ", ".join(
        f"{count:,} {ending or 'without ending'} in {label}/"
        for (label, ending), count in sorted(others.items(), key=lambda pair: (-pair[1], pair[0]))[:6]
    )
    strange = sum(count for (name, ending), count in others.items() if name in classes and ending not in BESIDE)
    if strange > MOST_OTHERS * (strange + pictures):
        raise DataError(
            f"{location}: {strange:,} of {strange + pictures:,} files in the class folders are no pictures by their "
            f"endings: {told}.",
            "Give pictures an ending that says their kind, and move other files away.",
        )
    return [f"files that are no pictures were left out: {told}"]


def _nothing(folder: Path) -> Exception:
    where = folder.as_posix()
    if _has_own_images(folder):
        return DataError(
            f"{where} holds pictures, but no class folders, so there are no labels.",
            f"Put each picture into a folder named after its class: {where}/CLASS/picture.png; or say where the "
            "names hold it, by a regular expression: --label '([a-z]+)[^/]*$'.",
        )
    suffixes = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return NothingScanned(
        f"{where}: no picture was found, so nothing was scanned.",
        way_of_folder(folder) or f"Expected {where}/CLASS/picture with one of these endings: {suffixes}.",
    )


def _folder_name(root: Path) -> str:
    return _text(root.name if root.name not in ("", "..") else root.resolve().name) or "data"


def _text(name: str) -> str:
    # A file name need not be UTF-8; a key in the database must be.
    return plain_text(name)


def item_of(content: bytes, suffix: str = "") -> Item:
    """Bytes of a picture file as a row."""
    decode = partial(decode_image, content, suffix)
    return Item(hashlib.sha256(content).hexdigest(), decode, lambda side: decode(side))


def decode_image(content: bytes, suffix: str = "", side: int | None = None) -> "Image.Image":
    """Bytes of a picture file -> RGB, upright (EXIF); the first frame of several. Raises ``UnreadableRow``.

    What it was in the file is kept beside it: see `pixels.as_read`.

    ``suffix`` is the file's ending: of a kind that Pillow cannot read alone it says what is missing. ``side``: so many
    pixels are enough, which a JPEG gives in a fifth of the time.
    """
    from PIL import Image, UnidentifiedImageError

    package = PLUGINS.get(suffix.lower())
    if package is not None:
        _plug_in(package)
    try:
        with unwarned():
            try:
                with Image.open(BytesIO(content)) as picture:
                    if side is not None:
                        picture.draft(None, (side, side))
                    return upright_rgb(picture)
            except UnidentifiedImageError:
                if not content.startswith(TIFF):
                    raise
                return banded_rgb(content)
    except UnidentifiedImageError as error:
        hint = f": {suffix} needs the package {package}" if package is not None else ""
        raise UnreadableRow(f"not a picture in a format that can be read{hint}") from error
    except UnreadableRow:
        raise
    except Exception as error:  # Pillow's plug-ins raise nearly anything on broken files
        raise UnreadableRow(f"the picture cannot be decoded: {error}") from error


def _plug_in(package: str) -> None:
    """Teaches Pillow another kind, if the package for it is installed."""
    with suppress(ImportError):
        module = import_module(package.replace("-", "_"))
        if package == "pillow-heif":  # the others do it themselves
            module.register_heif_opener()
