"""Generated data as it lies (folders, shards, archives, COCO), outside opinions, and objects in memory, for
``robust.py`` and the suite: one function each, as in ``robust_inputs.py``."""

import gzip
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from robust_odd import Fault, command, mutated, odd

import curate
from curate.errors import CurateError

Reader = Any
ENDINGS = ("csv", "csv.gz", "jsonl", "jsonl.gz", "json", "tsv", "npz", "parquet", "txt")


def _picture(draw: random.Random) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), (draw.randrange(256), draw.randrange(256), 0)).save(buffer, "png")
    return mutated(draw, buffer.getvalue()) if draw.random() < 0.2 else buffer.getvalue()


def _table(draw: random.Random, ending: str, n: int) -> bytes:
    """A table of two columns and a label, whole or changed, as a file of this ending holds it."""
    names = draw.choice([["a", "b", "label"], ["a", "b", "label"], ["a", "c", "label"], ["a", odd(draw), "label"]])
    rows = [[row % 5, odd(draw) if draw.random() < 0.05 else str(row % 3), "xy"[row % 2]] for row in range(n)]
    plain = ending.removesuffix(".gz")
    if plain in ("jsonl", "json"):
        told = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        content = ("\n".join(told) if plain == "jsonl" or draw.random() < 0.2 else f"[{','.join(told)}]").encode()
    elif plain == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, x=np.arange(2.0 * n).reshape(n, 2), y=np.arange(n) % 2)
        content = buffer.getvalue()
    elif plain == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        buffer = io.BytesIO()
        columns = {name.encode("utf-8", "replace").decode(): [str(row[place]).encode("utf-8", "replace").decode()
                   for row in rows] for place, name in enumerate(names)}  # fmt: skip
        parquet.write_table(pa.table(columns), buffer)
        content = buffer.getvalue()
    else:
        sign = "\t" if plain == "tsv" else ","
        content = "\n".join(sign.join(map(str, row)) for row in [names, *rows]).encode("utf-8", "replace")
    if draw.random() < 0.2:
        content = mutated(draw, content)
    packed = gzip.compress(content) if ending.endswith(".gz") else content
    return mutated(draw, packed) if draw.random() < 0.15 else packed


def table_folder(draw: random.Random, read: Reader) -> None:
    """Tables side by side: splits, shards, litter, links."""
    folder = Path("data")
    folder.mkdir()
    ending = draw.choice(ENDINGS)
    names = draw.choice([
        ["train", "val"], ["train", "test", "validation"], ["train-00000-of-00002", "train-00001-of-00002"],
        ["train-0-of-2", "train-1-of-3"], ["one", "two"], ["part-0", "part-1", "part-2"], ["train"], ["all", "train"],
        ["train-00000-of-00000"], [f"train-{10**30}-of-2", "train-1-of-2"], ["x" * 200],
    ])  # fmt: skip
    for name in names:
        other = draw.choice(ENDINGS) if draw.random() < 0.1 else ending
        (folder / f"{name}.{other}").write_bytes(_table(draw, other, draw.choice([0, 3, 20])))
    what = draw.random()
    if what < 0.1:
        (folder / f"link.{ending}").symlink_to(draw.choice(["/dev/zero", "nowhere", "link." + ending, "/etc/passwd"]))
    elif what < 0.2:
        os.mkfifo(folder / f"pipe.{ending}")
    elif what < 0.3:
        (folder / f"train2.{ending}").mkdir()
    elif what < 0.5:
        (folder / draw.choice(["README.md", ".DS_Store", "Thumbs.db", "labels.txt"])).write_text(odd(draw)[:50] or "x",
                                                                                       errors="replace")  # fmt: skip
    read(draw.choice(["data", "data", f"data/{names[0]}.{ending}"]))


def archive(draw: random.Random, read: Reader) -> None:
    """A tar of samples, with members that climb out, link, or are no files."""
    with tarfile.open("s.tar", draw.choice(["w", "w:gz"])) as packed:
        for number in range(draw.choice([0, 2, 8])):
            stem = f"{number:03d}"
            if draw.random() < 0.5:
                stem = draw.choice([f"../{number}", f"/tmp/{number}", odd(draw)[:40] or "k"])
            stem = stem.replace("\0", "").encode("utf-8", "replace").decode()
            label = draw.choice([b"0", b"1", b"", b"\xff", b"9" * 400])
            for ending, content in (("png", _picture(draw)), ("cls", label), ("json", b'{"label": "x"}')):
                member = tarfile.TarInfo(f"{stem}.{ending}")
                member.size = len(content)
                if draw.random() < 0.05:
                    member.type = draw.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
                    member.linkname = draw.choice(["/etc/passwd", "../x", f"{stem}.{ending}"])
                if draw.random() < 0.85:
                    packed.addfile(member, io.BytesIO(content))
    if draw.random() < 0.4:
        Path("s.tar").write_bytes(mutated(draw, Path("s.tar").read_bytes()))
    outside = sorted(path.name for path in Path("..").iterdir())
    try:
        read("s.tar")
    finally:
        if sorted(path.name for path in Path("..").iterdir()) != outside:
            raise Fault("an archive was unpacked outside of its folder")


def coco(draw: random.Random, read: Reader) -> None:
    numbers = range(draw.choice([0, 3, 6]))
    for number in numbers:
        Path(f"{number}.png").write_bytes(_picture(draw))

    def number_of(number: int) -> Any:
        return number if draw.random() < 0.95 else draw.choice([None, -1, 10**30, "x", 1.5, [], odd(draw)])

    whole: Any = {
        "images": [
            {"id": number_of(k), "file_name": draw.choice([f"{k}.png"] * 9 + ["/etc/passwd", "../x.png", odd(draw), 3])}
            for k in numbers
        ],
        "annotations": [{"image_id": number_of(k), "category_id": number_of(k % 2)} for k in numbers],
        "categories": [{"id": number_of(k), "name": draw.choice(["cat", "dog", odd(draw), None])} for k in range(2)],
    }
    if draw.random() < 0.3:
        whole[draw.choice(list(whole))] = draw.choice([None, {}, "x", [[]], [3], 7])
    content = json.dumps(whole).encode()
    Path("coco.json").write_bytes(mutated(draw, content) if draw.random() < 0.3 else content)
    read("coco.json")


def file_names(draw: random.Random, read: Reader) -> None:
    """Labels out of the names of files, by a regular expression of the user's."""
    folder = Path("flat")
    folder.mkdir()
    for number in range(draw.choice([0, 4, 12])):
        (folder / f"{draw.choice(['cat', 'dog', 'x'])}{draw.choice(['.', '_', '-', ''])}{number}.png").write_bytes(
            _picture(draw)
        )
    patterns = [
        "^([a-z]+)",
        "(cat|dog)",
        "(",
        "()",
        "(?P<label>cat|dog)",
        "[",
        "(a+)+$",
        ".*",
        "(x)(y)",
        "cat",
        odd(draw),
    ]
    read("flat", label=draw.choice(patterns))


def outside(draw: random.Random) -> None:
    """Probabilities and votes of others beside a scan."""
    n = 20
    lines = [f"r{row},{row % 5},{row * 3 % 7},{'xy'[row % 2]}" for row in range(n)]
    Path("t.csv").write_text("\n".join(["id,a,b,label", *lines]) + "\n")
    rows = draw.choice([n, n, n, n - 1, 0])

    def value() -> str:
        return draw.choice(["0.5", "0.5", "0.5", "1", "0", "-1", "nan", "inf", "1e308", odd(draw)[:60]])

    clean = draw.random() < 0.3
    names = draw.choice(
        [["id", "x", "y"], ["key", "x", "y"], ["x", "y"], ["id", "x", "z"], ["id", "label"], [odd(draw)]]
    )
    cells = [
        [f"r{row}" if name in ("id", "key") else "0.5" if clean else value() for name in names] for row in range(rows)
    ]
    content = "\n".join(",".join(line) for line in [names, *cells]).encode("utf-8", "replace")
    if draw.random() < 0.3:
        p = draw.choice([np.full((n, 2), 0.5), np.zeros((n, 2)), np.full((n, 3), 1 / 3), np.full(n, 0.5), np.eye(n),
                         np.full((n, 2), np.nan), np.full((n, 2), 1j), np.array([["a", "b"]] * n)])  # fmt: skip
        buffer = io.BytesIO()
        np.savez(buffer, **{draw.choice(["p", "pred_probs", "other"]): p})
        name, content = "p.npz", buffer.getvalue()
    else:
        name = draw.choice(["p.csv", "p.csv", "p.jsonl", "p.parquet", "p"])
    Path(name).write_bytes(mutated(draw, content) if draw.random() < 0.3 else content)
    option = draw.choice(["--pred-probs", "--votes"])
    command("scan", "t.csv", "--id", "id", "--no-cache", option, draw.choice([name, name, name, "nothing.csv", "."]))


def in_memory(draw: random.Random) -> None:
    """``curate.scan`` on arrays, frames and lists that nobody should hand over; the module's world stays as it was."""
    import pandas
    import torch

    n = draw.choice([0, 1, 5, 24])
    x = np.random.default_rng(draw.randrange(9)).normal(size=(n, 3))
    y = np.arange(n) % 2
    objects: list[Any] = [None, {}, "x", float("nan"), 10**400, b"\xff", object(), odd(draw)]
    labels = draw.choice([
        y, y.astype(float), y.astype(str), np.full(n, np.nan), np.array(draw.choices(objects, k=n), dtype=object),
        y[:-1], y[:, None], np.eye(max(n, 1)), [odd(draw) for _ in range(n)], None, 5, "xy", iter([1]), torch.tensor(y),
        np.ma.masked_array(y, y == 0), y.astype("M8[s]"), y.astype(complex), list(y), tuple(y), {1, 2}, set(),
    ])  # fmt: skip
    inputs = draw.choice([
        x, x.astype(np.float16), x * 1e300, x * np.nan, x.astype(complex), x[:, :0], x[0] if n else x, x.tolist(),
        x.astype(object), torch.tensor(x), torch.tensor(x).to_sparse(), x[..., None, None], np.asfortranarray(x),
        [odd(draw) for _ in range(n)], [b"x"] * n, None, 7, "nowhere", np.array([{}] * n, dtype=object), x.T,
        torch.tensor(x, requires_grad=True), [object()] * n, [[1], [1, 2]], np.broadcast_to(1.0, (n, 3)), b"ab",
    ])  # fmt: skip
    pairs = list(zip(x, y, strict=True))
    others: list[Any] = [inputs, pairs, {"x": inputs, "y": labels}, (inputs,), (inputs, labels, y, y)]
    train: Any = (inputs, labels) if draw.random() < 0.5 else draw.choice(others)
    more: dict[str, Any] = {}
    if draw.random() < 0.4:
        columns = {
            "a": list(x[:, 0]),
            draw.choice(["b", "b", odd(draw), 3]): pandas.Series(draw.choices(objects, k=n), dtype=object),
            "label": list(y),
        }
        try:
            train = pandas.DataFrame(columns)
        except UnicodeEncodeError:  # pandas from 3 on takes no half of a surrogate pair as a name
            return
        more["label"] = draw.choice(["label", "label", "a", odd(draw), None, 3])
        if draw.random() < 0.2:
            train = pandas.concat([train, train], axis=1)
    choices: dict[str, list[Any]] = {
        "features": [x, x[:-1], "x", None],
        "pred_probs": [np.full((n, 2), 0.5), x, "x", np.eye(2)],
        "model": ["net.py:x", 3, torch.nn.Linear(3, 2), torch.nn.Module],
        "seed": [1, -1, 2**80, "x"],
        "evaluation": [(x, y), x, 5],
        "classes": [["0", "1"], ["0"], 5, [odd(draw)]],
        odd(draw): [1],
    }
    for name, values in choices.items():
        if draw.random() < 0.12:
            more[name] = draw.choice(values)
    before = torch.is_grad_enabled()
    try:
        run = curate.scan(train, db="c.db", cache=False, **more)
        run.scores, run.findings, repr(run)
    except CurateError as error:
        if len(str(error)) > 600:
            raise Fault(f"a message of {len(str(error))} signs: {str(error)[:200]}") from None
        raise
    finally:
        if torch.is_grad_enabled() != before:
            raise Fault("torch's gradients are not as they were")


def opened(spec: str, **options: Any) -> None:
    """Every row of a data set, read."""
    from robust_inputs import read_all

    read_all(spec, **options)


LAYOUTS = {
    "folders of tables": (lambda draw: table_folder(draw, opened), 6),
    "archives": (lambda draw: archive(draw, opened), 4),
    "coco": (lambda draw: coco(draw, opened), 4),
    "names of files": (lambda draw: file_names(draw, opened), 2),
    "outside opinions": (outside, 0.8),
    "in memory": (in_memory, 2),
}
"""As ``KINDS`` of ``robust_inputs``."""
