"""Planted trials of the rules beside wrong labels: copies, spoilt rows, and what is found on clean rows.

    python tests/bench/rules.py FOLDER [--rows 300] [--seeds 0,1,2] [--sets flowers5,fashion,...] [--peers PYTHON]
    python tests/bench/rules.py FOLDER --cost 100000

FOLDER holds flowers5/, banking77/ and adult/, and for the cost clinc150/ and hymenoptera/; Fashion-MNIST is Debian's.
Thresholds were chosen on other sets (docs/explanation/findings.md). Each set is a sample of its rows (of texts and
tables four times as many) with copies, 20 of each kind, and spoilt rows, 10 of each kind, of rows that are not in the
sample; strangers, classes and groups have trials of their own (strangers.py, classes.py). `--cost` measures what the
rules cost beside the stages before them and the pixel measures beside the reading pass. PYTHON has cleanlab's Datalab:
`pip install cleanlab datasets cleanvision`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fashion
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from PIL import Image
from sklearn.metrics import average_precision_score

from curate.engine.neighbours import Neighbours
from curate.experiments.planting import COPY, KINDS
from curate.process.progress import Progress
from curate.rules.finders import copies
from curate.rules.finders.found import Found, Scan
from curate.rules.rule import RULES
from curate.settings.merge import load_settings
from curate.stages.contents import read_contents
from curate.stages.heads import fit_heads
from curate.stages.looks import hashes
from curate.stages.prepare import Data, Loaded, load, open_data, read
from curate.stages.suspicion import judge_rows

COPIES, SPOILT, SHOWN = 20, 10, 8
BANKING = "banking77/train.parquet"
MODEL = f"{Path(__file__).with_name('efficientnet.py')}:factory"
ON_ROWS = ("near_duplicate", "blank_picture", "dark_picture", "bright_picture", "blurred_picture", "tiny_picture",
           "odd_shape", "empty_text", "markup_text", "impossible_value", "stranger")  # fmt: skip

Picture = Image.Image


PICTURE_COPIES = {kind.name: kind.edit for kind in KINDS["image"] if kind.rule == COPY}
SPOILT_PICTURES = {kind.rule: kind.edit for kind in KINDS["image"] if kind.rule != COPY}
TEXT_COPIES = {kind.name: kind.edit for kind in KINDS["text"] if kind.rule == COPY}
SPOILT_TEXTS = {kind.rule: kind.edit for kind in KINDS["text"] if kind.rule != COPY}


@dataclass(frozen=True)
class Planted:
    """``rows``: what stands where, by key: the kind of a planted row; ``of``: the key that a copy is of."""

    rows: dict[str, str]
    of: dict[str, str]


def pictures_of(name: str, folder: Path, count: int, seed: int) -> list[tuple[str, Picture]]:
    """(class, picture) of a sample of rows."""
    draw = np.random.default_rng(seed)
    if name == "flowers5":
        files = sorted((folder / name).rglob("*.jpg"))
        return [
            (files[i].parent.name, Image.open(files[i]).convert("RGB")) for i in draw.permutation(len(files))[:count]
        ]
    images, labels = fashion.images("t10k")
    return [(str(labels[i]), Image.fromarray(images[i]).convert("RGB")) for i in draw.permutation(len(labels))[:count]]


def plant_pictures(to: Path, drawn: list[tuple[str, Picture]], seed: int) -> Planted:
    """Class folders of all but the last of these rows, which are spoilt."""
    spare = SPOILT * len(SPOILT_PICTURES)
    rows, outside = drawn[:-spare], iter(drawn[-spare:])
    draw = np.random.default_rng(seed)
    kinds, of = {}, {}

    def save(label: str, stem: str, picture: Picture) -> str:
        (to / label).mkdir(parents=True, exist_ok=True)
        picture.save(to / label / f"{stem}.png")
        return f"{label}/{stem}.png"

    keys = [save(label, f"row-{place:04}", picture) for place, (label, picture) in enumerate(rows)]
    order = iter(draw.permutation(len(rows)).tolist())
    for kind, edit in PICTURE_COPIES.items():
        for place in (next(order) for _ in range(COPIES)):
            key = save(rows[place][0], f"copy-{kind.split()[0]}-{place}", edit(rows[place][1], draw))
            kinds[key], of[key] = kind, keys[place]
    for kind, edit in SPOILT_PICTURES.items():
        for turn in range(SPOILT):
            label, picture = next(outside)
            kinds[save(label, f"spoilt-{kind}-{turn}", edit(picture, draw))] = kind
    return Planted(kinds, of)


def plant_texts(to: Path, rows: list[tuple[str, str]], seed: int) -> Planted:
    """A table of the texts with a column of keys."""
    draw = np.random.default_rng(seed)
    table = [(f"row-{place}", text, label) for place, (label, text) in enumerate(rows)]
    order = iter(place for place in draw.permutation(len(rows)).tolist() if len(rows[place][1].split()) > 4)
    kinds, of = {}, {}
    for kind, edit in TEXT_COPIES.items():
        for place in (next(order) for _ in range(COPIES)):
            table.append((f"copy-{kind}-{place}", edit(rows[place][1], draw), rows[place][0]))
            kinds[table[-1][0]], of[table[-1][0]] = kind, f"row-{place}"
    for kind, edit in SPOILT_TEXTS.items():
        for place in (next(order) for _ in range(SPOILT)):
            table.append((f"spoilt-{kind}-{place}", edit(rows[place][1], draw), rows[place][0]))
            kinds[table[-1][0]] = kind
    keys, texts, labels = zip(*table, strict=True)
    to.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"id": keys, "text": texts, "label": labels}), to / "rows.parquet")
    return Planted(kinds, of)


def plant_values(to: Path, table: pyarrow.Table, seed: int) -> Planted:
    """Ages beyond any, hours of 999, and a column of one value and one that repeats another."""
    draw, kinds = np.random.default_rng(seed), {}
    columns = {name: table[name].to_pylist() for name in table.column_names}
    places = draw.permutation(table.num_rows)[: 2 * SPOILT].tolist()
    for turn, place in enumerate(places):
        name, value = ("age", int(draw.integers(200, 900))) if turn % 2 else ("hours_per_week", 999)
        columns[name][place] = value
        kinds[f"row-{place}"] = "impossible_value"
    columns |= {"id": [f"row-{place}" for place in range(table.num_rows)], "unit": ["usd"] * table.num_rows}
    columns["hours"] = list(columns["hours_per_week"])
    to.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), to / "rows.parquet")
    return Planted(kinds, {})


def judged(location: Path, home: Path, **options: object) -> tuple[Scan, dict[str, float]]:
    """The rows read and judged as a scan does it, and processor seconds by part."""
    settings = load_settings({"train": str(location), "db": str(home / "curate.db"), **options}, config=None)
    silent, clock = Progress.silent(), time.process_time
    begun = clock()
    data: Data = read(settings, load(settings, silent), silent)
    seconds = {"reading": clock() - begun}
    begun = clock()
    heads = fit_heads(data, settings.damping)
    neighbours = Neighbours(data.train.features, settings.seed)
    of_rows = judge_rows(data, heads, neighbours, silent, settings.seed)
    scan = Scan(data, of_rows, None, neighbours)  # type: ignore[arg-type]
    return scan, seconds | {"suspicion": clock() - begun}


def scanned(location: Path, home: Path, **options: object) -> tuple[Scan, list[Found], dict[str, float]]:
    """The same with what all rules found."""
    scan, seconds = judged(location, home, **options)
    begun = time.process_time()
    found = list(_found(scan))
    return scan, found, seconds | {"rules": time.process_time() - begun}


def _found(scan: Scan) -> Iterator[Found]:
    from importlib import import_module

    for rule in RULES.values():
        if rule.preview and rule.name != "weak_slice":
            module, _, function = rule.finder.partition(":")
            yield from getattr(import_module(module), function)(scan)


def judged_by_rule(scan: Scan, found: list[Found], planted: Planted) -> list[dict[str, object]]:
    """Precision, recall by kind, and findings on rows that nothing was done to, for each rule."""
    keys = scan.data.train.keys
    lines = []
    for rule in ON_ROWS:
        rows = [each for each in found if each.rule == rule and each.row is not None and each.split == "train"]
        of_copies = rule == "near_duplicate"
        wanted = [key for key, kind in planted.rows.items() if (key in planted.of if of_copies else kind == rule)]
        true, hit, false = [], set(), []
        for each in rows:
            # a cluster is right if it holds a copy that was planted, whichever of its rows stands for it
            inside = {keys[each.row], *([str(each.name), *each.evidence["copies"]] if of_copies else [])}  # type: ignore[misc]
            if inside & set(planted.of if of_copies else wanted):
                true.append(each)
                hit |= inside
            elif not inside & set(planted.rows):  # else it is of a row that something else was done to
                false.append(example(scan, each))
        recall = Counter(planted.rows[key] for key in wanted if key in hit)
        of_kind = Counter(planted.rows[key] for key in wanted)
        if not wanted and not rows:
            continue
        score = np.zeros(len(keys))
        for each in rows:
            score[each.row] = 1.0 if each.score is None else each.score
        truth = np.array([key in wanted for key in keys])
        lines.append(
            {
                "rule": rule,
                "recall": {kind: round(recall[kind] / count, 3) for kind, count in of_kind.items()},
                "precision": None if not rows else round(len(true) / len(rows), 3),
                "named of clean rows": round(len(false) / (len(keys) - len(planted.rows)), 4),
                "AP": None if of_copies or not truth.any() else round(float(average_precision_score(truth, score)), 3),
                "such as": false[:SHOWN],
            }
        )
    return lines


def example(scan: Scan, found: Found) -> str:
    """A finding to judge by eye: two texts, or a picture's key and what is said of it."""
    train = scan.data.train
    assert found.row is not None
    if train.source.media == "text" and found.name is not None:
        other = train.source.text(train.indices[train.keys.index(str(found.name))])
        return f"{train.source.text(train.indices[found.row])} | {other}"
    return f"{train.keys[found.row]}: {found.why}"


def copies_ranked(scan: Scan, planted: Planted) -> dict[str, float]:
    """Average precision of rankings of the rows, copies and originals being what is looked for.

    Ours is the least difference from any candidate, whatever the thresholds say; beside it the least distance of
    the perceptual hash (as it is) from any other's.
    """
    train = scan.data.train
    sought = {*planted.of, *planted.of.values()}
    truth = np.array([key in sought for key in train.keys])
    kept = copies.SHARE_OF_USUAL, copies.MOST_BITS
    copies.SHARE_OF_USUAL, copies.MOST_BITS = 10.0, 64
    pairs = copies.copies_within(scan)
    copies.SHARE_OF_USUAL, copies.MOST_BITS = kept
    least = np.full(len(train), 2.0)
    for one, other, difference in pairs:
        least[one], least[other] = min(least[one], difference), min(least[other], difference)
    said = {"curate AP": round(float(average_precision_score(truth, -least)), 3)}
    if train.looks is not None:
        bits = hashes(train.looks.small()).astype(np.int16)
        distance = bits.sum(1)[:, None] + bits.sum(1) - 2 * bits @ bits.T
        np.fill_diagonal(distance, 64)
        alone = distance.min(1)
        said |= {
            "imagehash AP": round(float(average_precision_score(truth, -alone)), 3),
            "imagehash at most 8 bits: precision": round(float(truth[alone <= 8].mean()), 3),
            "recall": round(float((alone <= 8)[truth].mean()), 3),
        }
    return said


PEER = """
import json, sys
import numpy as np
from cleanlab import Datalab
from datasets import Dataset, Image
from sklearn.metrics import average_precision_score
given = np.load(sys.argv[1], allow_pickle=False)
data = {"label": given["labels"].tolist()}
pictures = "files" in given
if pictures:
    data["image"] = given["files"].tolist()
rows = Dataset.from_dict(data)
rows = rows.cast_column("image", Image()) if pictures else rows
lab = Datalab(rows, label_name="label", verbosity=0, **({"image_key": "image"} if pictures else {}))
lab.find_issues(features=given["features"])
issues, out = lab.get_issues(), {}
for kind, column in (("near_duplicate", "near_duplicate"), ("stranger", "outlier"), ("dark_picture", "dark"),
    ("bright_picture", "light"), ("blurred_picture", "blurry"), ("tiny_picture", "odd_size"),
    ("odd_shape", "odd_aspect_ratio"), ("blank_picture", "low_information")):
    truth = given["is_" + kind] if "is_" + kind in given else None
    if truth is None or not truth.any() or f"is_{column}_issue" not in issues:
        continue
    said, score = issues[f"is_{column}_issue"].to_numpy(), 1 - issues[f"{column}_score"].to_numpy()
    out[kind] = {"AP": round(float(average_precision_score(truth, score)), 3),
        "recall": round(float(said[truth].mean()), 3),
        "precision": round(float(truth[said].mean()), 3) if said.any() else None}
print(json.dumps(out))
"""


def datalab(python: str, scan: Scan, planted: Planted, location: Path) -> dict[str, object]:
    """What Datalab makes of the same features and files; copies and their originals count as near duplicates."""
    train = scan.data.train
    sought = {*planted.of, *planted.of.values()}
    truth = {
        rule: np.array(
            [(key in sought) if rule == "near_duplicate" else planted.rows.get(key) == rule for key in train.keys]
        )
        for rule in ON_ROWS
    }
    arrays = {f"is_{rule}": which for rule, which in truth.items()}
    if location.is_dir() and train.looks is not None:
        arrays["files"] = np.array([str(location / key) for key in train.keys])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.npz"
        np.savez(file, labels=train.labels.numpy(), features=train.features.numpy(), **arrays)
        done = subprocess.run([python, "-c", PEER, str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def plant(name: str, data: Path, home: Path, rows: int, seed: int) -> tuple[Path, Planted, dict[str, object]]:
    """Where the rows of a set with planted ones lie, what was planted, and the options of a scan."""
    to = home / f"{name}-{seed}"
    draw = np.random.default_rng(7)
    if name in ("flowers5", "fashion"):
        return to, plant_pictures(to, pictures_of(name, data, rows + 60, 7), seed), {"model": MODEL}
    if name == "banking77":
        table = pyarrow.parquet.read_table(data / BANKING)
        some = table.take(draw.permutation(table.num_rows)[: 4 * rows])
        pairs = list(zip(some["label"].to_pylist(), some["text"].to_pylist(), strict=True))
        return to / "rows.parquet", plant_texts(to, pairs, seed), {"input": "text", "label": "label", "id": "id"}
    table = pyarrow.parquet.read_table(data / "adult" / "train.parquet")
    some = table.take(draw.permutation(table.num_rows)[: 4 * rows])
    return to / "rows.parquet", plant_values(to, some, seed), {"label": "income", "id": "id"}


def cost(data: Path, home: Path, rows: int) -> None:
    """Processor seconds of all rules beside reading and suspicion (a scan does more), and of the pixels' measures."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, rows)
    features = draw.normal(size=(10, 128))[labels] + 2 * draw.normal(size=(rows, 128))
    home.mkdir(parents=True, exist_ok=True)
    np.savez(home / "features.npz", x=features.astype(np.float32), y=labels.astype(str))
    told("features", scanned(home / "features.npz", home)[2], rows)
    tables = [pyarrow.parquet.read_table(data / where) for where in ("clinc150/clinc150.parquet", BANKING)]
    texts = pyarrow.concat_tables([table.select(["text", "label"]) for table in tables])
    some = texts.take(draw.permutation(texts.num_rows)[:rows])
    pyarrow.parquet.write_table(some, home / "texts.parquet")
    options = {"input": "text", "label": "label"}
    told("texts", scanned(home / "texts.parquet", home, **options)[2], some.num_rows)
    for name in ("flowers5", "hymenoptera/train"):
        for model in (None, MODEL):
            measured_pictures(data / name, home, model)


def told(what: str, seconds: dict[str, float], rows: int) -> None:
    before = seconds["reading"] + seconds["suspicion"]
    share = seconds["rules"] / before
    print(
        f"{rows:,} rows of {what}: rules {seconds['rules']:.1f} s, before them {before:.1f} s: {share:.3f}", flush=True
    )


def measured_pictures(folder: Path, home: Path, model: str | None) -> None:
    """The share of the reading pass that `look_of` takes, of at most 400 pictures and without the cache."""
    from curate.stages import forward

    spent, plain = [0.0], forward.look_of

    def timed(picture: object) -> object:
        begun = time.process_time()
        look = plain(picture)
        spent[0] += time.process_time() - begun
        return look

    forward.look_of = timed  # type: ignore[assignment]
    options = {"train": str(folder), "db": str(home / "curate.db"), "limit": 400, "cache": False, "model": model}
    settings, silent = load_settings(options, config=None), Progress.silent()
    ready = open_data(settings, silent) if model is None else load(settings, silent)
    begun = time.process_time()
    if isinstance(ready, Loaded):
        read(settings, ready, silent)
    else:
        read_contents(settings, ready, silent, ())
    whole = time.process_time() - begun
    forward.look_of = plain
    how = "through the network" if model else "without a model"
    print(f"{folder.name}, {how}: measures {spent[0]:.2f} s of {whole:.1f} s: {spent[0] / whole:.3f}", flush=True)


def trial(name: str, seed: int, given: argparse.Namespace, home: Path) -> None:
    """One set with one planting: what each rule found, and what peers make of it."""
    location, planted, options = plant(name, given.folder, home, given.rows, seed)
    scan, found, seconds = scanned(location, home / name, **options)
    spent = ", ".join(f"{part} {value:.1f}" for part, value in seconds.items())
    print(f"\n{name}, seed {seed}: {len(scan.data.train):,} rows; processor seconds: {spent}", flush=True)
    for line in judged_by_rule(scan, found, planted):
        print("  ", json.dumps(line), flush=True)
    others = [each for each in found if each.row is None]
    counts = dict(Counter(each.rule for each in others))
    print("   on columns and classes:", [(each.rule, each.name) for each in others][:6], counts)
    if planted.of:
        print("   copies and originals:", json.dumps(copies_ranked(scan, planted)))
    if given.peers and name != "adult":
        print("   Datalab:", json.dumps(datalab(given.peers, scan, planted, location)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default="flowers5,fashion,banking77,adult")
    parser.add_argument("--peers", help="a Python that has cleanlab, datasets and cleanvision")
    parser.add_argument("--cost", type=int, help="measure cost alone, on so many rows")
    given = parser.parse_args()
    home = fashion.HOME / "rules"
    if given.cost:
        cost(given.folder, home / "cost", given.cost)
        return
    for name in given.sets.split(","):
        for seed in map(int, given.seeds.split(",")):
            trial(name, seed, given, home)


if __name__ == "__main__":
    sys.exit(main())
