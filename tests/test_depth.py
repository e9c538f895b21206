"""Pictures of other depths and modes than RGB of eight bits: what a transform is given, and what the default makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from curate.errors import UnreadableRow
from curate.models.loading import LoadedModel
from curate.models.transforms import make_transform
from curate.sources import Source, open_source
from curate.sources.images import decode_image

SIDE = 4
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)


def model(channels: int, transform: Callable[[Any], Any] | None = None) -> LoadedModel:
    layers = (nn.Conv2d(channels, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    return LoadedModel(nn.Sequential(*layers), transform, "net.py:make", None, "0", [])


def folder(root: Path, ending: str, *pictures: Image.Image, **saved: Any) -> Source:
    for number, picture in enumerate(pictures * 2):
        place = root / "data" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number}{ending}", **saved)
    return open_source(str(root / "data"))[0]


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """As torchvision's, of any mode."""
    pixels = np.array(picture)
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1).float()


class TestDefault:
    @pytest.mark.parametrize(
        ("ending", "pixels", "saved", "white"),
        [
            (".png", (RAMP * 4096).astype(np.uint16), {}, 65535),
            (".tif", (RAMP * 4096).astype(np.uint16), {}, 65535),
            (".tif", (RAMP * 256).astype(np.uint16), {"tiffinfo": {281: 4095}}, 4095),
            (".tif", (RAMP / 20).astype(np.float32), {}, 1),
            (".tif", (RAMP * 10).astype(np.float32), {}, 255),
        ],
    )
    def test_depth_is_scaled_by_what_the_file_says(
        self, ending: str, pixels: np.ndarray, saved: dict[str, Any], white: float, tmp_path: Path
    ) -> None:
        source = folder(tmp_path, ending, Image.fromarray(pixels), **saved)
        transform, notes = make_transform(model(1), source)
        row = transform(source.read(0).decode())
        torch.testing.assert_close(row, torch.from_numpy(pixels.astype(np.float32) / white)[None])
        assert f"{white:g} is 1" in notes[0]

    def test_one_white_serves_all_pictures_of_floats(self, tmp_path: Path) -> None:
        dark, bright = (Image.fromarray(np.full((SIDE, SIDE), value, np.float32)) for value in (0.5, 200.0))
        source = folder(tmp_path, ".tif", dark, bright)
        transform, _ = make_transform(model(1), source)
        values = {float(transform(source.read(row).decode()).max()) for row in range(4)}
        assert sorted(values) == pytest.approx([0.5 / 255, 200 / 255])

    def test_transparency_is_a_channel_where_the_network_takes_four(self, tmp_path: Path) -> None:
        source = folder(tmp_path, ".png", Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 51)))
        row = make_transform(model(4), source)[0](source.read(0).decode())
        assert row[:, 0, 0].tolist() == pytest.approx([1, 0, 0, 0.2])

    def test_people_are_shown_eight_bits(self) -> None:
        from io import BytesIO

        for pixels in ((RAMP * 4369).astype(np.uint16), (RAMP / 15).astype(np.float32)):
            out = BytesIO()
            Image.fromarray(pixels).save(out, "TIFF")
            shown = np.asarray(decode_image(out.getvalue()))
            assert shown[..., 0].tolist() == (RAMP * 17).tolist()


class TestUsersTransform:
    @pytest.mark.parametrize(
        ("picture", "ending", "channels", "mode"),
        [
            (Image.fromarray((RAMP * 4096).astype(np.uint16)), ".png", 1, "I;16"),
            (Image.fromarray(RAMP.astype(np.float32)), ".tif", 1, "F"),
            (Image.new("L", (SIDE, SIDE), 7), ".png", 1, "L"),
            (Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4)), ".png", 4, "RGBA"),
            (Image.new("CMYK", (SIDE, SIDE), (1, 2, 3, 4)), ".tif", 4, "CMYK"),
        ],
    )
    def test_it_gets_the_picture_as_in_its_file(
        self, picture: Image.Image, ending: str, channels: int, mode: str, tmp_path: Path
    ) -> None:
        source = folder(tmp_path, ending, picture)
        transform, _ = make_transform(model(channels, to_tensor), source)
        row = transform(source.read(0).decode())
        assert torch.equal(row, to_tensor(picture))
        assert transform.notes == [f"pictures in {mode} reach the transform as they are in their files"]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA"])
    def test_it_gets_rgb_where_only_that_passes(self, mode: str, tmp_path: Path) -> None:
        source = folder(tmp_path, ".png", Image.new("RGB", (SIDE, SIDE), (9, 9, 9)).convert(mode))
        transform, _ = make_transform(model(3, to_tensor), source)
        assert transform(source.read(0).decode()).shape == (3, SIDE, SIDE)
        assert transform.notes == [f"pictures in {mode} reach the transform as RGB: as they are they do not pass"]  # type: ignore[attr-defined]

    def test_a_transform_that_reads_transparency_of_a_palette_gets_it(self, tmp_path: Path) -> None:
        picture = Image.new("P", (SIDE, SIDE))
        source = folder(tmp_path, ".png", picture, transparency=0)
        transform, _ = make_transform(model(4, lambda given: to_tensor(given.convert("RGBA"))), source)
        assert float(transform(source.read(0).decode())[3].max()) == 0

    def test_some_pictures_of_another_mode_come_out_like_the_rest(self, tmp_path: Path) -> None:
        source = folder(tmp_path, ".png", *(Image.new(mode, (SIDE, SIDE)) for mode in ("RGB", "RGBA", "L")))
        transform, _ = make_transform(model(3, to_tensor), source)
        assert {transform(source.read(row).decode()).shape for row in range(len(source))} == {(3, SIDE, SIDE)}


class TestFilesOfSeveral:
    @pytest.mark.parametrize(("ending", "kind"), [(".gif", "GIF"), (".tif", "TIFF"), (".webp", "WEBP")])
    def test_the_first_frame_is_read_and_that_is_said(self, ending: str, kind: str, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("white", "black")]
        source = folder(tmp_path, ending, frames[0], save_all=True, append_images=frames[1:], format=kind)
        assert source.read(0).decode().getpixel((0, 0)) == (255, 255, 255)
        assert source.notes == [f"2 of 2 files in {ending} hold several frames or pages: the first is read"]
        table = tmp_path / "t.csv"
        table.write_text("file,label\n" + "".join(f"data/{key},{key[0]}\n" for key in source.keys))
        assert open_source(str(table))[0].notes == source.notes

    def test_a_tiff_that_pillow_does_not_read_says_what_would(self, tmp_path: Path) -> None:
        source = folder(tmp_path, ".tif", Image.new("RGB", (SIDE, SIDE)))
        path = source.file(0)
        assert path is not None
        path.write_bytes(b"II*\x00" + bytes(60))
        with pytest.raises(UnreadableRow, match=r"tifffile|cannot be decoded"):
            source.read(0).decode()

    def test_many_bands_reach_the_transform(self, tmp_path: Path) -> None:
        tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
        source = folder(tmp_path, ".tif", Image.new("RGB", (SIDE, SIDE)))
        bands = np.arange(SIDE * SIDE * 8, dtype=np.uint16).reshape(SIDE, SIDE, 8)
        path = source.file(0)
        assert path is not None
        tifffile.imwrite(path, bands, planarconfig="contig", photometric="minisblack")
        row = make_transform(model(8, to_tensor), source)[0](source.read(0).decode())
        assert torch.equal(row, torch.from_numpy(bands.astype(np.float32)).permute(2, 0, 1))
