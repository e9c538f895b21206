"""A second scan after one per cent of new rows: its time beside the first one's, its scores beside a scan from nothing.

    python tests/bench/incremental.py FOLDER [--weights FILE] [options of curate scan]

FOLDER holds class folders; the rows are linked into a folder of their own, so FOLDER itself is only read. Without
--weights a ResNet-18 is first trained on the rows for a few minutes. Times are of the wall and of the processor: on a
machine that others use only the second says anything.
"""

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCORES = ("suspicion", "loss", "margin", "self_influence", "harm", "neighbour_agreement", "given_probability")
SIDE = 128  # that of the pictures of flowers5
TRAINING = ((64, 134, 0.05), (SIDE, 24, 0.01))
"""(side of the pictures, steps, learning rate)."""
BATCH = 64


def scan(folder: Path, database: Path, options: list[str]) -> tuple[float, float]:
    """(wall seconds, processor seconds)."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).with_name("curate")), "scan", str(folder), "--db", str(database), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, spent


def scores(database: Path) -> dict[str, tuple[float | None, ...]]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            f"SELECT e.key, {', '.join(f's.{name}' for name in SCORES)} FROM scores AS s JOIN examples AS e "
            "ON e.id = s.example_id WHERE s.run_id = (SELECT max(id) FROM runs)"
        )
        return {key: tuple(values) for key, *values in rows}


def newest(database: Path) -> tuple[dict[str, float], list[str]]:
    """Counts and notes of the newest run."""
    with sqlite3.connect(database) as connection:
        counts, notes = connection.execute("SELECT counts, notes FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return json.loads(counts), json.loads(notes)


def trained(folder: Path, to: Path) -> None:
    """A ResNet-18 from nothing, small pictures first: the weights that people scan with are trained, not random."""
    import torch
    from torch.nn import functional as F
    from torchvision import datasets, models
    from torchvision.transforms import v2

    torch.manual_seed(0)
    model = models.resnet18(num_classes=len(datasets.ImageFolder(str(folder)).classes))
    for side, steps, rate in TRAINING:
        prepare = v2.Compose(
            [v2.Resize((side, side)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
             v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        )  # fmt: skip
        rows = datasets.ImageFolder(str(folder), prepare)
        sampler = torch.utils.data.RandomSampler(rows, num_samples=steps * BATCH)
        optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        for x, y in torch.utils.data.DataLoader(rows, BATCH, sampler=sampler):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    torch.save(model.state_dict(), to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--weights", type=Path, help="of --model, else of torchvision:resnet18 at the pictures' own size"
    )
    asked, options = parser.parse_known_args()
    files = sorted(path for path in asked.folder.glob("*/*") if path.is_file())
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for number, path in enumerate(files):
            link = home / "rows" / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if number % 100:
                link.symlink_to(path.resolve())
        weights = asked.weights or home / "weights.pt"
        if asked.weights is None:
            trained(home / "rows", weights)
        if "--model" not in options:
            options = ["--model", "torchvision:resnet18", "--model-arg", f"image_size={SIDE}", *options]
        options += ["--weights", str(weights)]
        first = scan(home / "rows", home / "a" / "curate.db", options)
        for path in files[::100]:
            (home / "rows" / path.parent.name / path.name).symlink_to(path.resolve())
        second = scan(home / "rows", home / "a" / "curate.db", options)
        anew = scan(home / "rows", home / "b" / "curate.db", options)
        counts, notes = newest(home / "a" / "curate.db")
        left, right = scores(home / "a" / "curate.db"), scores(home / "b" / "curate.db")
    print(f"{len(files):,} rows, {len(files[::100])} of them new; {counts['reused']:,} reused")
    for place, name in enumerate(("wall", "processor")):
        a, b, c = first[place], second[place], anew[place]
        print(f"{name} seconds: first {a:.1f}, second {b:.1f} ({b / a:.3f} of it), from nothing {c:.1f}")
    assert left.keys() == right.keys()
    for place, name in enumerate(SCORES):
        gaps = [
            abs(a - b) for key in left if (a := left[key][place]) is not None and (b := right[key][place]) is not None
        ]
        print(f"{name}: largest difference {max(gaps, default=0.0):.2g}")
    print(*notes, sep="\n")


if __name__ == "__main__":
    main()
