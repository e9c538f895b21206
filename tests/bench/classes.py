"""Planted trials of the rules on classes, slices and groups: what each finds, and what it names besides.

    python tests/bench/classes.py FOLDER [--seeds 0,1,2] [--sets digits,banking77,flowers5]
    python tests/bench/classes.py FOLDER --groups --sets digits,banking77

FOLDER holds banking77/ and flowers5/; the digits are scikit-learn's. Each set is ten classes (flowers5 has five) of 100
training and 40 evaluation rows, scanned as a user does. One thing is planted at a time: two classes have a second
spelling, keep four rows or are halved at random into two; all but one keep eight rows; half of the evaluation rows of a
class are of others, or half of those of a fifth of all have another label; five evaluation rows are of patients who
have training rows. `none` plants nothing.
Thresholds stand as they are: nothing is chosen here. `--groups` changes a tenth of the labels and deals the training
rows to groups at random, which tell nothing of them: with `--group` suspicion should find as much as without.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import fashion
import numpy as np
import pyarrow
import pyarrow.parquet
import rules
from sklearn import datasets
from sklearn.metrics import average_precision_score

import curate

CLASSES, TRAIN, EVALUATION, PLANTED = 10, 100, 40, 2
SITES, PATIENTS, LEAKED = 5, 50, 5
FEW, ENOUGH = 4, 20
"""Rows that a class made rare keeps; as many as another one is thinned to, which is then not rare."""
THINNED = 8
"""Rows of all classes but one where it is the large one that the accuracy rests on."""
RULES = ("label_variant", "rare_class", "overlap", "imbalance", "weak_class", "weak_slice", "leak")

Texts = list[str]


@dataclass
class Part:
    """Rows of one split; ``inputs`` by column."""

    inputs: dict[str, list[float] | Texts]
    labels: Texts
    sites: Texts
    patients: Texts

    def of(self, label: str) -> list[int]:
        return [row for row, each in enumerate(self.labels) if each == label]

    def write(self, file: Path, name: str) -> str:
        columns = {"id": [f"{name}-{row}" for row in range(len(self.labels))], **self.inputs}
        columns |= {"label": self.labels, "site": self.sites, "patient": self.patients}
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
        return str(file)


def whole(name: str, folder: Path) -> tuple[dict[str, list[float] | Texts], Texts]:
    """The inputs of a set, by column, and its labels."""
    if name == "digits":
        held = datasets.load_digits()
        return {f"x{at}": held.data[:, at].tolist() for at in range(64)}, [f"digit {label}" for label in held.target]
    if name == "flowers5":
        files = sorted((folder / name).rglob("*.jpg"))
        return {"image": [str(file.resolve()) for file in files]}, [file.parent.name for file in files]
    table = pyarrow.parquet.read_table(folder / rules.BANKING)
    return {"text": table["text"].to_pylist()}, table["label"].to_pylist()


def drawn(name: str, folder: Path, seed: int, evaluated: int = EVALUATION) -> tuple[Part, Part]:
    """Training and evaluation rows, as many of each class; sites and patients are dealt at random."""
    draw = np.random.default_rng(seed)
    inputs, labels = whole(name, folder)
    counts = Counter(labels)
    usable = sorted(label for label, count in counts.items() if count >= TRAIN + evaluated)
    chosen = set(draw.permutation(usable)[:CLASSES].tolist())
    order = [row for row in draw.permutation(len(labels)).tolist() if labels[row] in chosen]
    seen: Counter[str] = Counter()
    rows: tuple[list[int], list[int]] = ([], [])
    for row in order:
        if seen[labels[row]] < TRAIN + evaluated:
            rows[seen[labels[row]] >= TRAIN].append(row)
        seen[labels[row]] += 1

    def part(of: list[int], prefix: str) -> Part:
        return Part(
            {column: [values[row] for row in of] for column, values in inputs.items()},  # type: ignore[misc]
            [labels[row] for row in of],
            [f"s{site}" for site in draw.integers(SITES, size=len(of))],
            [f"{prefix}{patient}" for patient in draw.integers(PATIENTS, size=len(of))],
        )

    return part(rows[0], "p"), part(rows[1], "q")


def drop(part: Part, gone: set[int]) -> None:
    """All but these rows are left."""
    kept = [row for row in range(len(part.labels)) if row not in gone]
    part.inputs = {column: [values[row] for row in kept] for column, values in part.inputs.items()}  # type: ignore[misc]
    for values in (part.labels, part.sites, part.patients):
        values[:] = [values[row] for row in kept]


def thin(part: Part, keep: dict[str, int]) -> None:
    """So many rows of these classes are left."""
    drop(part, {row for label, count in keep.items() for row in part.of(label)[count:]})


def relabel(part: Part, rows: list[int], draw: np.random.Generator, to: str | None = None) -> None:
    """Another label for these rows: this one, or one at random."""
    classes = sorted(set(part.labels))
    for row in rows:
        part.labels[row] = to or str(draw.choice([label for label in classes if label != part.labels[row]]))


def plant(rule: str, train: Part, evaluation: Part, draw: np.random.Generator) -> set[str]:
    """What a finding of the rule should name, by its key."""
    classes = sorted(set(train.labels))
    some = draw.permutation(classes)[:PLANTED].tolist()
    if rule == "label_variant":
        for label, other in zip(some, (some[0].upper(), some[1].replace(" ", "_") + "s"), strict=True):
            for row in train.of(label)[: TRAIN // 4]:
                train.labels[row] = other
        return {f"class:{some[0].upper()}", f"class:{some[1].replace(' ', '_')}s"}
    if rule == "rare_class":
        fewer = dict.fromkeys(some, FEW) | {next(label for label in classes if label not in some): ENOUGH}
        thin(train, fewer)
        return {f"class:{label}" for label in some}
    if rule == "overlap":
        for part in (train, evaluation):
            for label in some:
                for row in draw.permutation(part.of(label))[::2].tolist():
                    part.labels[row] = f"{label}, other"
        return {f"class:{label} and {label}, other" for label in some}
    if rule == "imbalance":
        thin(train, dict.fromkeys(set(classes) - {some[0]}, THINNED))
        return {f"class:{some[0]}"}
    if rule == "weak_class":  # rows of others take the place of half of its own
        own = evaluation.of(some[0])[::2]
        others = [row for row, label in enumerate(evaluation.labels) if label != some[0]]
        relabel(evaluation, draw.permutation(others)[: len(own)].tolist(), draw, some[0])
        drop(evaluation, set(own))
        return {f"class:{some[0]}"}
    if rule == "weak_slice":
        site = f"s{draw.integers(SITES)}"
        rows = [row for row, each in enumerate(evaluation.sites) if each == site]
        relabel(evaluation, draw.permutation(rows)[: len(rows) // 2].tolist(), draw)
        return {f"slice:site={site}"}
    if rule == "leak":
        leaked = draw.permutation(len(evaluation.labels))[:LEAKED].tolist()
        for row in leaked:
            evaluation.patients[row] = train.patients[row]
        return {f"eval-{row}" for row in leaked}
    return set()


def trial(
    name: str, rule: str, seed: int, folder: Path, home: Path, evaluated: int = EVALUATION
) -> tuple[set[str], dict[str, set[str]]]:
    """What was planted, and what each rule names."""
    train, evaluation = drawn(name, folder, seed, evaluated)
    planted = plant(rule, train, evaluation, np.random.default_rng(seed))
    home.mkdir(parents=True, exist_ok=True)
    run = curate.scan(
        train.write(home / "train.parquet", "train"),
        evaluation.write(home / "eval.parquet", "eval"),
        model=rules.MODEL if name == "flowers5" else None,
        input=",".join(train.inputs),
        label="label",
        id="id",
        slice="site",
        group="patient" if rule == "leak" else None,
        db=str(home / "curate.db"),
        progress=False,
    )
    named: dict[str, set[str]] = defaultdict(set)
    for each in run.findings:
        if each["rule"] in RULES:
            named[each["rule"]].add(each["key"])
    return planted, named


def grouped(name: str, seed: int, folder: Path, home: Path) -> None:
    """Average precision of suspicion where a tenth of the labels is changed, by how large the groups are."""
    train, _ = drawn(name, folder, seed)
    draw, classes = np.random.default_rng(seed), sorted(set(train.labels))
    changed = draw.permutation(len(train.labels))[: len(train.labels) // 10].tolist()
    for row in changed:
        train.labels[row] = str(draw.choice([label for label in classes if label != train.labels[row]]))
    home.mkdir(parents=True, exist_ok=True)
    for size in (1, 2, 5, 20, 100):
        train.patients = [f"p{one}" for one in draw.integers(len(train.labels) // size, size=len(train.labels))]
        options = {"input": ",".join(train.inputs), "label": "label", "id": "id"}
        options |= {"group": "patient"} if size > 1 else {}
        scan, _ = rules.judged(Path(train.write(home / "train.parquet", "train")), home, **options)
        wrong = {f"train-{row}" for row in changed}
        truth, suspicion = [key in wrong for key in scan.data.train.keys], scan.judged.train.suspicion
        score, flagged = average_precision_score(truth, suspicion), int((suspicion > scan.judged.cut).sum())
        of = "no groups" if size == 1 else f"groups of about {size}"
        print(f"{name}, seed {seed}, {of}: AP {score:.3f}, {flagged} flagged of {len(changed)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default="digits,banking77,flowers5")
    parser.add_argument("--evaluation", type=int, default=EVALUATION, help="evaluation rows of each class")
    parser.add_argument("--plant", default=",".join(("none", *RULES)), help="these alone")
    parser.add_argument("--groups", action="store_true", help="suspicion under --group alone")
    given = parser.parse_args()
    for name in given.sets.split(","):
        if given.groups:
            for seed in map(int, given.seeds.split(",")):
                grouped(name, seed, given.folder, fashion.HOME / "groups" / name)
            continue
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        home = fashion.HOME / "classes" / name
        for seed in map(int, given.seeds.split(",")):
            for rule in given.plant.split(","):
                planted, named = trial(name, rule, seed, given.folder, home, given.evaluation)
                besides = {each: sorted(keys - (planted if each == rule else set())) for each, keys in named.items()}
                besides = {each: keys for each, keys in besides.items() if keys}
                found = named[rule] & planted
                print(f"{name}, seed {seed}, {rule}: {len(found)} of {len(planted)}; besides {json.dumps(besides)}")
                sys.stdout.flush()
                sums[rule].update(planted=len(planted), found=len(found), named=len(named[rule]))
                sums["none"].update({each: len(keys) for each, keys in named.items() if rule == "none"})
        for rule in (rule for rule in RULES if rule in sums):
            of = sums[rule]
            precision = f"{of['found'] / of['named']:.2f}" if of["named"] else "none named"
            clean = sums["none"][rule]
            print(f"{name}, {rule}: {of['found']} of {of['planted']}, precision {precision}, on clean sets {clean}")


if __name__ == "__main__":
    sys.exit(main())
