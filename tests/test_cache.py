"""The cache of forward passes: a shard that is not whole is computed anew, and the whole is bounded."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.stages.cache import ForwardCache
from curate.stages.sweeping import sweep

HASHES = ["a" * 64, "b" * 64, "c" * 64]
NO_LOOK = torch.empty(3, 0, dtype=torch.uint8)


def cache(folder: Path, identity: str = "model") -> ForwardCache:
    return ForwardCache(folder, identity)


def filled(folder: Path, identity: str = "model") -> Path:
    """One shard of three rows; its path."""
    made = cache(folder, identity)
    made.put(HASHES, torch.arange(6.0).reshape(3, 2), torch.arange(9.0).reshape(3, 3), torch.empty(3, 0), NO_LOOK)
    (shard,) = made.folder.glob("*.npz")
    return shard


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    filled(tmp_path)
    found = cache(tmp_path).get("b" * 64)
    assert found is not None
    assert [part.tolist() for part in found] == [[2.0, 3.0], [3.0, 4.0, 5.0], [], []]
    assert cache(tmp_path, "another").get("b" * 64) is None


def test_numbers_are_read_of_shards_whose_rows_are_asked_for(tmp_path: Path) -> None:
    made = cache(tmp_path)
    for letter in "ab":
        made.put([letter * 64], torch.zeros(1, 2), torch.zeros(1, 3), torch.empty(1, 0), NO_LOOK[:1])
    read = cache(tmp_path)
    assert not read._shards
    assert read.get("a" * 64) is not None
    assert len(read._shards) == 1


def torn(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


def empty(shard: Path) -> None:
    shard.write_bytes(b"")


def half(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def other_text(shard: Path) -> None:
    shard.write_text("not a shard")


def altered(shard: Path) -> None:
    """A number is changed and the archive is sound: only the checksum can tell."""
    with np.load(shard) as stored:
        arrays = dict(stored)
    arrays["logits"][1, 1] += 1e-6
    np.savez(shard, **arrays)


def without_checksum(shard: Path) -> None:
    with np.load(shard) as stored:
        arrays = {name: array for name, array in stored.items() if name != "checksum"}
    np.savez(shard, **arrays)


def a_flipped_bit(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 8
    shard.write_bytes(content)


@pytest.mark.parametrize("harm", [torn, empty, half, other_text, altered, without_checksum, a_flipped_bit])
def test_a_shard_that_is_not_whole_is_written_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    shard = filled(tmp_path)
    before = shard.read_bytes()
    harm(shard)
    read = cache(tmp_path)
    assert read.get("b" * 64) is None
    assert not shard.exists()
    read.put(HASHES, torch.arange(6.0).reshape(3, 2), torch.arange(9.0).reshape(3, 3), torch.empty(3, 0), NO_LOOK)
    assert cache(tmp_path).get("b" * 64) is not None
    assert len(shard.read_bytes()) == len(before)


def test_every_byte_counts(tmp_path: Path) -> None:
    """Whatever byte is lost or changed: the rows are those that were written, or there are none."""
    shard = filled(tmp_path)
    whole = shard.read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        at = int(draw.integers(len(content)))
        if draw.random() < 0.3:
            content = content[:at]
        else:
            content[at] ^= int(draw.integers(1, 256))
        shard.write_bytes(content)
        found = cache(tmp_path).get("b" * 64)
        assert found is None or [part.tolist() for part in found] == [[2.0, 3.0], [3.0, 4.0, 5.0], [], []], at


def test_a_folder_that_cannot_be_written_to_costs_no_scan(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = cache(tmp_path / "file")
    made.put(HASHES, torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3, 1), NO_LOOK)
    made.put(HASHES, torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3, 1), NO_LOOK)
    assert len(made.notes) == 1
    assert "the cache could not be written" in made.notes[0]


def aged(shard: Path, days: float) -> Path:
    then = shard.stat().st_mtime - days * 86_400
    os.utime(shard, (then, then))
    return shard


def test_what_nobody_used_for_long_goes_and_is_said(tmp_path: Path) -> None:
    old, new = aged(filled(tmp_path, "old"), 91), aged(filled(tmp_path, "new"), 89)
    done = sweep(tmp_path)
    assert not old.parent.exists()
    assert new.exists()
    assert str(done).startswith("1 shard (")
    assert "of the cache removed: unused for 90 days" in str(done)
    assert str(sweep(tmp_path)) == ""


def test_beyond_its_size_the_least_used_goes_first(tmp_path: Path) -> None:
    shards = [aged(filled(tmp_path, name), days) for name, days in (("a", 3), ("b", 1), ("c", 2))]
    size = shards[0].stat().st_size
    done = sweep(tmp_path, largest=2 * size)
    assert [shard.exists() for shard in shards] == [False, True, True]
    assert (done.files, done.left) == (1, 2 * size)
    assert "the least used first" in str(done)


def test_use_makes_a_shard_young(tmp_path: Path) -> None:
    shard = aged(filled(tmp_path), 91)
    cache(tmp_path)
    sweep(tmp_path)
    assert shard.exists()


def test_files_that_a_killed_process_left_half_written_go(tmp_path: Path) -> None:
    shard = filled(tmp_path)
    left, fresh = shard.parent / "x.1.tmp", shard.parent / "y.1.tmp"
    for path in (left, fresh):
        path.write_bytes(b"half")
    aged(left, 1)
    sweep(tmp_path)
    assert (left.exists(), fresh.exists()) == (False, True)
