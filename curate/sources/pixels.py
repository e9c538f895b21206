"""A picture as it stands in its file, and as the RGB of eight bits that everyone can show.

Knows modes and depths: which value is white in a picture of sixteen bits, of floats or of several bands, and what in
its file says so. Leaves files and folders to `images`, tensors to `models.pictures`.
"""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curate.errors import UnreadableRow

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    Array = npt.NDArray[Any]

T = TypeVar("T")
DEEP = ("I", "F")
"""Modes of more than eight bits, I;16 and its byte orders among the first; RGB would clip them to white."""
FRAMES = frozenset({".gif", ".webp", ".tif", ".tiff", ".apng", ".png", ".avif", ".avifs", ".mpo"})
"""Endings of files that may hold several frames or pages."""
MOST_HEADERS = 200
"""Such files of a data set that are looked into."""
SAID_BY = r"PIL\.|curate\.sources\."
"""Modules whose warnings on a picture are no reason to stop: it is large, or its EXIF odd."""
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_BITS, _LARGEST, _LARGEST_FLOAT = 258, 281, 341
"""Tags of a TIFF file: bits per sample, the largest value of whole numbers, of floats."""
_AS_READ = "curate: as read"
_GUESSES = (1.0, 255.0, 65535.0)


@dataclass(frozen=True)
class AsRead:
    """A picture as its file has it, upright: of PIL in its own mode, or ``[h w bands]``. ``white`` if the file says."""

    pixels: Any
    white: float | None = None

    @property
    def deep(self) -> bool:
        """Whether eight bits would lose some of it."""
        return not hasattr(self.pixels, "mode") or self.pixels.mode.startswith(DEEP)

    @property
    def mode(self) -> str:
        """PIL's word for what a pixel is, or the number of bands."""
        if not hasattr(self.pixels, "mode"):
            return f"{self.pixels.shape[2]} bands"
        clear = " with transparency" if self.pixels.mode == "P" and "transparency" in self.pixels.info else ""
        return f"{self.pixels.mode}{clear}"

    def values(self) -> "Array":
        """``[h w]`` or ``[h w c]``, float32, as the file has them."""
        import numpy as np

        return np.asarray(self.pixels).astype(np.float32)


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """No warning is told. Filters are the whole process's: beside the first thread none is set, see `stages.ahead`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_read(picture: "Image.Image") -> AsRead:
    """What a picture was in its file, if `upright_rgb` made it; else itself."""
    found = picture.info.get(_AS_READ)
    return found if isinstance(found, AsRead) else AsRead(picture)


def white_of(read: AsRead) -> float:
    """The value that is white: as the file says, else the least usual one that no pixel is above."""
    import numpy as np

    if read.white is not None:
        return read.white
    most = float(np.nanmax(read.values()))
    return next((guess for guess in _GUESSES if most <= guess), most)


def upright_rgb(picture: "Image.Image") -> "Image.Image":
    """A picture as RGB, turned as its EXIF says. Raises `UnreadableRow` if its pixels cannot be decoded."""
    from PIL import ImageOps

    try:
        with unwarned():
            read = AsRead(ImageOps.exif_transpose(picture), _told_white(picture))
            return read.pixels if read.mode == "RGB" else _eight_bits(read)
    except Exception as error:  # Pillow's plug-ins raise nearly anything on broken files
        raise UnreadableRow(f"the picture cannot be decoded: {error}") from error


def banded_rgb(content: bytes) -> "Image.Image":
    """A TIFF of a kind that Pillow does not read, of many bands say. Raises `UnreadableRow` without tifffile."""
    import numpy as np

    try:
        tifffile = import_module("tifffile")
    except ImportError as error:
        raise UnreadableRow(
            "not a picture in a format that can be read: this kind of TIFF needs the package tifffile"
        ) from error
    with tifffile.TiffFile(BytesIO(content)) as file:
        page = file.pages[0]
        pixels, axes = np.asarray(page.asarray()), page.axes
    if pixels.ndim == 3 and axes.startswith("S"):  # bands one behind the other
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "uif":
        raise UnreadableRow(f"the picture has the shape {pixels.shape}, no rows of pixels")
    whole = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else None
    return _eight_bits(AsRead(pixels if pixels.ndim == 3 else pixels[..., None], whole))


def told_frames(paths: Iterable[Path]) -> list[str]:
    """A note if some of these files hold several frames or pages; the first of them are looked into."""
    some = [path for path in paths if path.suffix.lower() in FRAMES][:MOST_HEADERS]
    several = sum(header(path, lambda picture: bool(getattr(picture, "is_animated", False))) or False for path in some)
    if not several:
        return []
    kinds = " ".join(sorted({path.suffix.lower() for path in some}))
    return [f"{several:,} of {len(some):,} files in {kinds} hold several frames or pages: the first is read"]


def header(path: str | Path, asked: Callable[["Image.Image"], T]) -> T | None:
    """What the header of a picture's file answers; None if it cannot be read, which is told when the row is."""
    from PIL import Image

    if not Path(path).is_file():  # a pipe would be waited for
        return None
    try:
        with unwarned(), Image.open(path) as picture:
            return asked(picture)
    except Exception:  # Pillow's plug-ins raise nearly anything on broken files
        return None


def _told_white(picture: "Image.Image") -> float | None:
    """What a file says of its white: a TIFF's tags, else the type of its numbers; None of floats and wide ones."""
    tags = getattr(picture, "tag_v2", {})
    for tag in (_LARGEST, _LARGEST_FLOAT):
        found = tags.get(tag)
        value = found[0] if isinstance(found, tuple) and found else found
        if isinstance(value, int | float) and value > 0:
            return float(value)
    if picture.mode.startswith("I;16"):
        bits = tags.get(_BITS, (16,))
        return float(2 ** (bits[0] if isinstance(bits, tuple) else int(bits)) - 1)
    if picture.mode == "I" and picture.format in ("PPM", "PNG"):
        return 65535.0
    return None if picture.mode in ("I", "F") else 255.0


def _eight_bits(read: AsRead) -> "Image.Image":
    import numpy as np
    from PIL import Image

    if read.deep:
        shares = np.nan_to_num(read.values() / max(white_of(read), 1e-30)).clip(0, 1)
        small = (255 * shares + 0.5).astype(np.uint8)
        small = small if small.ndim == 2 or small.shape[2] >= 3 else small[..., 0]
        rgb = Image.fromarray(np.ascontiguousarray(small[..., :3] if small.ndim == 3 else small)).convert("RGB")
    else:
        rgb = read.pixels.convert("RGB")
    rgb.info[_AS_READ] = read
    return rgb
