"""How well rows of no class are found: the sets that the rule is chosen on, and those that it is judged on.

    python tests/bench/strangers.py choose|judge FOLDER [--seeds 0,1,2] [--hosts NAME,...] [--peers PYTHON]

FOLDER holds cifar10n_dev/, hymenoptera/, clinc150/, flowers5/ and banking77/; Fashion-MNIST is Debian's. No set, and no
class of CIFAR-10N, is on both sides, and no rows of the judged sets are strangers among those chosen on. Strangers are
1 and 5 % of the host's rows, each under a class at random; a twentieth of the other rows are relabelled. `none` plants
nothing: what is named there is named of clean rows. PYTHON has cleanlab's Datalab.
"""

import argparse
import ast
import json
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fashion
import numpy as np
import pyarrow
import pyarrow.parquet
import rules
from PIL import Image
from sklearn import datasets
from sklearn.metrics import average_precision_score

from curate.rules.finders.stranger import discoveries, strangeness

Row = tuple[str, Image.Image | str]
"""Class and picture or text."""
Rows = Callable[[Path], list[Row]]

RELABELLED = 0.05
SHARES = (0.01, 0.05)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
VEHICLES, DEER, ANIMALS = (0, 1, 2, 8, 9), (4,), (3, 5, 6, 7)
"""Classes of CIFAR-10N: those that are a host to choose on and the one left out of it; those to judge on."""
GREY = ("garments", "digits", "grey")
"""Strangers that are made grey, whatever they come from."""


def cifar(classes: tuple[int, ...]) -> Rows:
    def rows(folder: Path) -> list[Row]:
        with np.load(folder / "cifar10n_dev" / "cifar10n_dev_5k.npz") as held:
            images, labels = held["images"], held["clean_label"]
        return [(CIFAR[labels[i]], Image.fromarray(images[i])) for i in np.flatnonzero(np.isin(labels, classes))]

    return rows


def files(name: str) -> Rows:
    def rows(folder: Path) -> list[Row]:
        found = sorted((folder / name).rglob("*.jpg"))
        return [(file.parent.name, Image.open(file).convert("RGB")) for file in found if file.stem != "imageNotFound"]

    return rows


def arrays(of: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Rows:
    return lambda folder: [(str(y), Image.fromarray(x).convert("RGB")) for x, y in zip(*of(), strict=True)]


def eights() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, of 8 pixels, uint8."""
    held = datasets.load_digits()
    return (held.images * 255 / 16).astype(np.uint8), held.target


def noise(folder: Path) -> list[Row]:
    draw = np.random.default_rng(0)
    return [("noise", Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8))) for _ in range(200)]


def pieces(folder: Path) -> list[Row]:
    """Of scikit-learn's two photos: squares of 96 pixels."""
    photos = datasets.load_sample_images().images
    return [
        (str(which), Image.fromarray(photo[y : y + 96, x : x + 96]))
        for which, photo in enumerate(photos)
        for y in range(0, photo.shape[0] - 96, 48)
        for x in range(0, photo.shape[1] - 96, 48)
    ]


def texts(file: str) -> Rows:
    def rows(folder: Path) -> list[Row]:
        table = pyarrow.parquet.read_table(folder / file)
        return list(zip(table["label"].to_pylist(), table["text"].to_pylist(), strict=True))

    return rows


def prose(folder: Path) -> list[Row]:
    """Sentences of scikit-learn's descriptions of its data sets."""
    loaders = (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer, datasets.load_diabetes,
               datasets.load_digits, datasets.load_linnerud)  # fmt: skip
    lines = {" ".join(line.split()) for load in loaders for line in load().DESCR.replace("\n", " ").split(". ")}
    return [("prose", line) for line in sorted(lines) if 5 <= len(line.split()) <= 60]


def library(folder: Path) -> list[Row]:
    """Sentences of the documentation in Python's library."""
    found: set[str] = set()
    for file in Path(sysconfig.get_path("stdlib")).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                found.update(" ".join((ast.get_docstring(node) or "").split()).split(". "))
    return [("library", line) for line in sorted(found) if 5 <= len(line.split()) <= 60]


@dataclass(frozen=True)
class Host:
    """A set that strangers are planted in; `left` plants a class (by the seed) that is taken out of it."""

    rows: Rows
    count: int
    strangers: dict[str, Rows]
    left: bool = True
    classes: int | None = None
    """Only so many, drawn; all if None."""


INSECTS, FLOWERS, DIGITS = files("hymenoptera"), files("flowers5"), arrays(eights)
GARMENTS = arrays(lambda: fashion.images("t10k"))
CLINC = "clinc150/clinc150.parquet"


def outside(folder: Path) -> list[Row]:
    return [row for row in texts(CLINC)(folder) if row[0] == "oos"]


def requests(folder: Path) -> list[Row]:
    return [row for row in texts(CLINC)(folder) if row[0] != "oos"]


OTHER = {"noise": noise, "photos": pieces}
PHOTOS = OTHER | {"deer": cifar(DEER), "insects": INSECTS, "digits": DIGITS}
HOSTS = {
    "choose": {
        "vehicles": Host(cifar(VEHICLES), 300, PHOTOS),
        "vehicles-800": Host(cifar(VEHICLES), 800, PHOTOS),
        "insects": Host(INSECTS, 300, OTHER | {"vehicles": cifar(VEHICLES), "digits": DIGITS}, left=False),
        "digits": Host(DIGITS, 300, OTHER | {"vehicles": cifar(VEHICLES), "grey insects": INSECTS}),
        "clinc150": Host(requests, 1500, {"out of scope": outside, "library": library}, classes=30),
    },
    "judge": {
        "flowers5": Host(FLOWERS, 300, {"garments": GARMENTS, "insects": INSECTS, "animals": cifar(ANIMALS)}),
        "fashion": Host(GARMENTS, 300, {"flowers": FLOWERS, "digits": DIGITS, "animals": cifar(ANIMALS)}),
        "banking77": Host(texts(rules.BANKING), 1200, {"other requests": requests, "prose": prose}),
    },
}


@cache
def held(rows: Rows, folder: Path) -> list[Row]:
    return rows(folder)


def plant(host: Host, of: str, share: float, folder: Path, to: Path, seed: int) -> tuple[Path, dict[str, object]]:
    """Where the rows lie, and the options of a scan. Keys of strangers begin with `stranger`."""
    draw = np.random.default_rng(seed)
    all_rows = held(host.rows, folder)
    names = sorted({label for label, _ in all_rows})
    if host.classes is not None:
        names = sorted(np.random.default_rng(7).permutation(names)[: host.classes].tolist())
    left = names[int(np.random.default_rng(seed).integers(len(names)))] if of == "left" else None
    own = [row for row in all_rows if row[0] in names and row[0] != left]
    own = [own[i] for i in np.random.default_rng(7).permutation(len(own))[: host.count]]
    classes = sorted({label for label, _ in own})
    labels = [label for label, _ in own]
    for i in draw.permutation(len(own))[: round(RELABELLED * len(own))]:
        labels[i] = str(draw.choice([name for name in classes if name != labels[i]]))
    others = [row for row in all_rows if row[0] == left] if of in ("none", "left") else held(host.strangers[of], folder)
    some = [others[i] for i in draw.permutation(len(others))[: round(share * len(own))]]
    rows = [(f"row-{i:04}", label, thing) for i, (label, (_, thing)) in enumerate(zip(labels, own, strict=True))]
    rows += [(f"stranger-{i:04}", str(draw.choice(classes)), thing) for i, (_, thing) in enumerate(some)]
    to.mkdir(parents=True, exist_ok=True)
    if isinstance(own[0][1], str):
        keys, given, said = zip(*rows, strict=True)
        pyarrow.parquet.write_table(pyarrow.table({"id": keys, "label": given, "text": said}), to / "rows.parquet")
        return to / "rows.parquet", {"input": "text", "label": "label", "id": "id"}
    size = own[0][1].size
    for key, label, picture in rows:
        assert isinstance(picture, Image.Image)
        (to / label).mkdir(exist_ok=True)
        if key.startswith("stranger"):
            grey = of in GREY or of.startswith("grey")
            picture = (picture.convert("L") if grey else picture).convert("RGB").resize(size)
        picture.save(to / label / f"{key}.png")
    return to, {"model": rules.MODEL}


def trial(host: Host, of: str, share: float, seed: int, given: argparse.Namespace, home: Path) -> dict[str, object]:
    """Average precision of the order of all rows, whatever the threshold says, and how many are named, and falsely."""
    location, options = plant(host, of, share, given.folder, home / f"{of}-{seed}-{share}", seed)
    scan = rules.judged(location, home, **options)[0]
    strange = strangeness(scan)
    assert strange is not None
    keys = scan.data.train.keys
    truth, named = np.array(["stranger-" in key for key in keys]), discoveries(strange.chance)
    line: dict[str, object] = {
        "rows": len(keys),
        "of": int(truth.sum()),
        "named": int((named & truth).sum()),
        "false": int((named & ~truth).sum()),
        "such as": [keys[row] for row in np.flatnonzero(named & ~truth)[: rules.SHOWN]],
    }
    if truth.any():
        line["AP"] = round(float(average_precision_score(truth, strange.score)), 3)
        if given.peers:
            planted = rules.Planted({key: "stranger" for key in keys if "stranger-" in key}, {})
            line["Datalab"] = rules.datalab(given.peers, scan, planted, location).get("stranger")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=sorted(HOSTS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--hosts", help="all if left out")
    parser.add_argument("--peers", help="a Python that has cleanlab, datasets and cleanvision")
    given = parser.parse_args()
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for name in given.hosts.split(",") if given.hosts else HOSTS[given.side]:
        host = HOSTS[given.side][name]
        for of in ("none", *host.strangers, *(["left"] if host.left else [])):
            for share in SHARES if of != "none" else (0.0,):
                for seed in map(int, given.seeds.split(",")):
                    line = trial(host, of, share, seed, given, fashion.HOME / "strangers" / name)
                    print(f"{name}, {share:.0%} {of}, seed {seed}: {json.dumps(line)}", flush=True)
                    for told in ("clean" if of == "none" else "planted", f"{name}, {of}"):
                        sums[told].update({key: line[key] for key in ("rows", "of", "named", "false")})
    for told, sum_ in sums.items():
        print(f"{told}: {dict(sum_)}")


if __name__ == "__main__":
    sys.exit(main())
