"""The cache of forward passes: shards of features, logits, early features and looks by content hash.

Knows files and that any of them may be torn, altered or gone: what is not whole is taken away and computed anew, and a
disk without room costs time, never a scan. Leaves what the numbers depend on to ``prepare`` (``identity``) and how
far it may grow to ``sweeping``.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from curate.files.reading import check_regular
from curate.sources.npz import Arrays
from curate.stages.sweeping import unlink

Depths = tuple[Tensor, Tensor, Tensor, Tensor]
"""Features, logits, early features and look (`looks`; of length 0 unless it is a picture) of a row."""

T = TypeVar("T")

LARGEST_SHARD = 2**32
_PARTS = ("sha256", "features", "logits", "early", "looks")


class ForwardCache:
    """Features, logits, early features and looks by content hash, in shards.

    ``identity`` is all that the numbers depend on beside content. ``notes`` says what could not be written, or read. A
    shard's numbers are read when one of its rows is asked for: of several processes each holds those of its own rows.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:32]
        self.notes: list[str] = []
        self._rows: dict[str, tuple[Path, int]] = {}
        self._shards: dict[Path, Depths | None] = {}
        """Those that were read; None of one that is not whole."""
        self._full = False
        for shard in sorted(self.folder.glob("*.npz")):
            for row, sha in enumerate(self._if_whole(shard, _hashes) or ()):
                self._rows[sha] = (shard, row)
            with contextlib.suppress(OSError):
                os.utime(shard)  # the age of a shard is the time since its last use

    def get(self, sha256: str) -> Depths | None:
        """What is stored of the row with this content; None if nothing is."""
        if sha256 not in self._rows:
            return None
        shard, row = self._rows[sha256]
        if shard not in self._shards:
            self._shards[shard] = self._if_whole(shard, _numbers)
        depths = self._shards[shard]
        if depths is None:
            return None
        features, logits, early, looks = (store[row] for store in depths)
        return features, logits, early, looks

    def _if_whole(self, shard: Path, read: Callable[[Path], T]) -> T | None:
        """What is read of a shard; None if it may not be read. One that is not whole is taken away: computed anew."""
        try:
            return read(shard)
        except OSError:
            return None
        except ValueError as error:
            self.notes.append(f"{shard.name} of the cache was damaged ({error}): its rows were computed anew")
            unlink(shard)
            return None

    def put(self, hashes: list[str], *depths: Tensor) -> None:
        """Writes a shard of the parts of `Depths`; named by its content, so that writing it twice is one file.

        A disk that is full, or a folder that may not be written to, is said once; the scan goes on without a cache.
        """
        if not hashes or self._full:
            return
        name = hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
        temporary = self.folder / f"{name}.{os.getpid()}.tmp"
        arrays = dict(zip(_PARTS, (np.array(hashes), *(part.numpy() for part in depths)), strict=True))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(file, checksum=np.array(_checksum(arrays)), **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / f"{name}.npz")
        except OSError as error:
            self._full = True
            self.notes.append(f"the cache could not be written ({error.strerror or error}): a later scan computes anew")
            unlink(temporary)
        except BaseException:
            unlink(temporary)
            raise


def _arrays(shard: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of a shard. Raises ``ValueError`` if it is not whole, ``OSError`` if it may not be read."""
    check_regular(shard, LARGEST_SHARD)
    with shard.open("rb") as file:
        stored = Arrays(file)
        try:
            return {name: stored.take(name) for name in names}
        except KeyError as error:
            raise ValueError(f"no array {error}") from None
        finally:
            stored.close()


def _hashes(shard: Path) -> list[str]:
    """Of its rows, unchecked: the numbers are."""
    hashes = _arrays(shard, _PARTS[:1])["sha256"]
    if hashes.ndim != 1 or hashes.dtype.kind != "U":
        raise ValueError("its hashes are none")
    return [str(sha) for sha in hashes]


def _numbers(shard: Path) -> Depths:
    arrays = _arrays(shard, (*_PARTS, "checksum"))
    told = arrays.pop("checksum")
    if told.shape != () or str(told) != _checksum(arrays):
        raise ValueError("its checksum is another")
    if any(len(arrays[name]) != len(arrays["sha256"]) for name in _PARTS):
        raise ValueError("its arrays have other lengths")
    features, logits, early, looks = (torch.from_numpy(arrays[name]) for name in _PARTS[1:])
    return features, logits, early, looks


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name in _PARTS:
        array = arrays[name]
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return whole.hexdigest()
