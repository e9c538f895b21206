"""The default transform: which size, which channels, and what becomes of the layouts that picture files have."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from curate.errors import ModelError
from curate.models.loading import LoadedModel
from curate.models.transforms import Transform, make_transform
from curate.sources import Source, open_source
from curate.sources.images import decode_image, item_of


def flat(side: int, channels: int = 1) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, 2))


def transform_for(module: nn.Module, source: Source) -> tuple[Transform, str]:
    transform, notes = make_transform(LoadedModel(module, None, "net.py:make", None, "0", []), source)
    return transform, notes[0]


def folder(root: Path, *sizes: tuple[int, int]) -> Source:
    for number, size in enumerate(sizes):
        place = root / "data" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (255, 0, 0)).save(place / f"{number}.png")
    return open_source(str(root / "data"))[0]


def test_one_size_that_the_network_takes_is_kept(tmp_path: Path) -> None:
    source = folder(tmp_path, (7, 5), (7, 5))
    conv = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    transform, note = transform_for(conv, source)
    assert transform(source.read(0).decode()).shape == (3, 5, 7)
    assert note == "no transform given: pictures as RGB in 0..1, at their own size, not normalised"


@pytest.mark.parametrize(("module", "shape"), [(flat(28), (1, 28, 28)), (flat(32, 3), (3, 32, 32))])
def test_other_sizes_become_the_one_that_the_network_takes(
    tmp_path: Path, module: nn.Module, shape: tuple[int, ...]
) -> None:
    for root, sizes in ((tmp_path / "one", [(60, 40), (60, 40)]), (tmp_path / "two", [(60, 40), (50, 70)])):
        source = folder(root, *sizes)
        transform, note = transform_for(module, source)
        rows = torch.stack([transform(source.read(i).decode()) for i in range(2)])
        assert rows.shape == (2, *shape)
        assert module(rows).shape == (2, 2)
        assert f"resized on the shorter side and cropped to {shape[1]}x{shape[2]}" in note


def test_different_sizes_take_224_where_any_size_passes(tmp_path: Path) -> None:
    source = folder(tmp_path, (60, 40), (50, 70))
    transform, note = transform_for(nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), source)
    assert transform(source.read(1).decode()).shape == (3, 224, 224)
    assert "cropped to 224x224" in note


def test_no_usual_size_passes(tmp_path: Path) -> None:
    source = folder(tmp_path, (60, 40), (50, 70))
    with pytest.raises(ModelError, match=r"differ in size \(60x40, 50x70\).*no usual size passes.*\n.*`transform`"):
        transform_for(flat(33), source)


def test_the_crop_is_the_middle(tmp_path: Path) -> None:
    source = folder(tmp_path, (60, 40), (50, 70))
    wide = Image.new("L", (56, 28), 0)
    wide.paste(255, (14, 0, 42, 28))
    assert bool((transform_for(flat(28), source)[0](wide) == 1).all())


def test_pictures_that_lie_on_their_side_have_their_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = folder(tmp_path, (5, 7), (5, 7))
    Image.new("RGB", (7, 5)).save(tmp_path / "data" / "a" / "turned.jpg", exif=exif)
    source = open_source(str(tmp_path / "data"))[0]
    transform, note = transform_for(nn.Conv2d(3, 2, 1), source)
    assert "at their own size" in note
    assert {transform(source.read(i).decode()).shape for i in range(3)} == {torch.Size([3, 7, 5])}


def _bytes(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def _palette(transparency: bool) -> bytes:
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50] + [0] * 762)
    return _bytes(picture, **({"transparency": 1} if transparency else {}))


LAYOUTS = {
    "grey": (_bytes(Image.new("L", (2, 2), 51)), (51, 51, 51)),
    "black and white": (_bytes(Image.new("1", (2, 2), 1)), (255, 255, 255)),
    "grey with alpha": (_bytes(Image.new("LA", (2, 2), (51, 0))), (51, 51, 51)),
    "sixteen bits": (_bytes(Image.fromarray(np.full((2, 2), 51 * 257, np.uint16))), (51, 51, 51)),
    "palette": (_palette(False), (200, 100, 50)),
    "palette with a transparent colour": (_palette(True), (200, 100, 50)),
    # as torchvision's ImageFolder reads it: the colour under the transparency, no white or black ground
    "alpha": (_bytes(Image.new("RGBA", (2, 2), (200, 100, 50, 0))), (200, 100, 50)),
    "CMYK": (_bytes(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_layouts(tmp_path: Path, layout: str, channels: int) -> None:
    content, colour = LAYOUTS[layout]
    source = folder(tmp_path, (2, 2), (2, 2))
    row = transform_for(nn.Conv2d(channels, 2, 1), source)[0](decode_image(content))
    expected = Image.new("RGB", (1, 1), colour).convert("L" if channels == 1 else "RGB").getpixel((0, 0))
    wanted = torch.tensor(expected, dtype=torch.float32).view(-1, 1, 1).expand(channels, 2, 2) / 255
    torch.testing.assert_close(row, wanted)


def test_a_picture_is_decoded_small_where_its_format_can() -> None:
    """A thumbnail asks for few pixels: at least so many, upright, of about the same colours."""
    content = BytesIO()
    picture = Image.new("RGB", (1200, 800), (200, 40, 40))
    picture.paste((20, 20, 220), (0, 0, 600, 800))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(content, "JPEG", exif=exif)
    item = item_of(content.getvalue(), ".jpg")
    assert item.small is not None
    small, whole = item.small(192), item.decode()
    assert whole.size == (800, 1200)
    assert 192 <= small.width < 400
    assert small.height > small.width
    wanted = np.asarray(whole.resize(small.size), dtype=float)
    assert np.abs(np.asarray(small, dtype=float) - wanted).mean() < 2
