"""Generated networks, scans, reports, exports and pages, for ``robust.py`` and the suite: one function each.

As the readers in ``robust_inputs.py``, each takes a source of chance and an empty folder (the current one).
"""

import asyncio
import random
import re
from pathlib import Path

import numpy as np
import robust_odd
from robust_odd import Fault, command, mutated, odd
from stored import begin, finish

from curate.errors import CurateError
from curate.review.files import read_entries
from curate.store import ExampleRecord, FindingRecord, Store

NETWORKS = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, {outputs})
    def forward(self, x):
        h = torch.relu(self.body(x))
        z = self.head(h)
        return {value}
"""
OUTPUTS = [
    "z", "z.softmax(1)", "z.log_softmax(1)", "(z, h)", "{'logits': z}", "{'a': 1}", "[z]", "None", "'text'", "z.sum()",
    "z[:, :1]", "z[0]", "z * float('nan')", "z * 1e38 * 1e10", "z.half()", "z.long()", "z > 0", "z[..., None, None]",
    "h", "3", "z.to_sparse()", "z.double()", "z.expand(2, *z.shape)", "1 / 0", "z.numpy()", "torch.randn_like(z)",
    "z - z.mean(0)", "z.repeat(2, 1)", "z[:0]", "z.to(torch.complex64)", "z.argmax(1)", "dict(z=z, h=h)",
    "z if len(x) > 1 else None", "x",
]  # fmt: skip


def network(draw: random.Random) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.savez("rows.npz", x=x, y=(x[:, 0] > 0).astype(int))
    value, outputs = draw.choice(OUTPUTS), draw.choice([1, 2, 2, 2, 5])
    Path("net.py").write_text(NETWORKS.format(value=value, outputs=outputs))
    more = draw.choice([[], [], ["--params", "head"], ["--params", "all"], ["--fail-on", "error"], ["--head", "head"]])
    command("scan", "rows.npz", "--model", "net.py:Net", "--no-cache", *more)


def whole_scan(draw: random.Random) -> None:
    """The command line end to end on a table, with options from everywhere."""
    n = draw.choice([10, 30])
    lines = [
        "a,b,label",
        *(f"{row % 5},{odd(draw) if draw.random() < 0.1 else row % 3},{'xy'[row % 2]}" for row in range(n)),
    ]
    content = "\n".join(lines).encode("utf-8", "replace")
    Path("t.csv").write_bytes(mutated(draw, content) if draw.random() < 0.3 else content)
    arguments = ["scan", "t.csv"]
    for _ in range(draw.randrange(3)):
        option = draw.choice([
            "--label", "--input", "--id", "--limit", "--seed", "--damping", "--eval-rows", "--slice", "--neighbours",
            "--name", "--classes", "--max-noise-rate", "--fail-on", "--eval",
        ])  # fmt: skip
        arguments += [option, draw.choice(["label", "a", "5", "0.1", "x,y", "label=x", "error", "t.csv", odd(draw)])]
    command(*[argument.replace("\0", "") for argument in arguments])


# Reports, exports, pages


def hostile_run(draw: random.Random, path: Path) -> list[str]:
    """A finished run whose names, labels, texts and notes are odd; its keys."""
    with Store.open(path, create=True) as store:
        dataset = store.dataset(odd(draw) or "d", draw.choice(["data", odd(draw)]), draw.choice(["images", "table"]))
        labels = list(dict.fromkeys([odd(draw) for _ in range(3)] + ["cat"]))
        store.set_labels(dataset, [(label, index) for index, label in enumerate(labels)])
        run = begin(store, dataset)
        keys = list(dict.fromkeys([odd(draw) or "k" for _ in range(6)]))
        rows = [
            ExampleRecord("train", key, place, f"{place:064x}", draw.choice(labels), draw.choice([None, odd(draw)]),
                          draw.choice([None, odd(draw) * 3]), draw.choice([None, b"\xff\xd8", b"<svg onload=x>"]), True)
            for place, key in enumerate(keys)
        ]  # fmt: skip
        ids = store.add_examples(dataset, rows)
        store.add_scores(run, [
            {"example_id": example, "suspicion": draw.random(), "rank": place + 1, "loss": 1.0, "harm": 0.1,
             "suggested_label": draw.choice([None, *labels]), "suggested_probability": 0.5}
            for place, example in enumerate(dict.fromkeys(ids))
        ])  # fmt: skip
        store.add_findings(run, [
            FindingRecord(example, draw.choice(["mislabeled", "harmful", "conflict"]), "error", 0.5,
                          {"detectors": {odd(draw): 1.0}, odd(draw): odd(draw)}, odd(draw))
            for example in dict.fromkeys(ids)
        ])  # fmt: skip
        finish(store, run, notes=[odd(draw), "warning: " + odd(draw)])
        found = store.query("SELECT key FROM named_examples")
    return [row["key"] for row in found]


PROGRAMS = ("json", "jsonl", "sarif", "gitlab", "junit")
"""Formats for programs, which hold what the data holds; control signs are escapes in them."""
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
STEERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e\u2028]")


def report(draw: random.Random) -> None:
    keys = hostile_run(draw, Path("c.db"))
    for name in draw.sample(
        ["text", "json", "jsonl", "csv", "markdown", "html", "github", "gitlab", "junit", "sarif"], 3
    ):
        told = command("--db", "c.db", "report", "-f", name)
        found = (CONTROLS if name in PROGRAMS else STEERS).search(told)
        if found:
            raise Fault(f"{name} holds a sign that steers: {found}")
        if name == "html" and ("<script>alert" in told or "<svg onload" in told):
            raise Fault("a page holds markup of the data")
    key = draw.choice(keys).replace("\0", "")
    told = command("--db", "c.db", "show", "-f", draw.choice(["text", "html"]), "--", key)
    if STEERS.search(told) or "<script>alert" in told.partition("<body")[2]:
        raise Fault("a row's page holds what it must not")


def real_process(draw: random.Random) -> None:
    """A case of the command line in a process of its own, as people start it."""
    robust_odd.REAL = True
    try:
        draw.choice([whole_scan, report, export])(draw)
    finally:
        robust_odd.REAL = False


def export(draw: random.Random) -> None:
    """Exports of a run with odd names, and of pictures whose new labels lead out of the folder."""
    if draw.random() < 0.7:
        hostile_run(draw, Path("c.db"))
        form = draw.choice(["cleanlab:o.csv", "fiftyone:o", "label-studio:o.json"])
        command(
            "--db", "c.db", "export", *draw.choice([["-f", form], ["--verdicts", "v.csv"], ["--verdicts", "v.jsonl"]])
        )
        if Path("v.csv").exists() and Path("v.csv").read_text().count("\n") > 1:
            read_entries("v.csv")
        return
    from PIL import Image

    outside = sorted(path.name for path in Path("..").iterdir())
    with Store.open("c.db", create=True) as store:
        dataset = store.dataset("pets", "pets", "images")
        run = store.begin_run(dataset, settings={"train": "pets"}, seed=0, versions={})
        for place, key in enumerate(["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]):
            Path("pets", key).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2), (place, 0, 0)).save(Path("pets", key))
            (row,) = store.add_examples(dataset, [ExampleRecord("train", key, place, _sha(Path("pets", key)), key[:3])])
            store.add_scores(run, [{"example_id": row, "suspicion": 0.5, "rank": place + 1}])
        store.finish_run(run, counts={})
        try:
            store.mark("cat/0.png", "relabel", draw.choice(["../../out", "..", "/etc", "a/b", odd(draw)]), reviewer="a",
                       new_class=True)  # fmt: skip
        except CurateError:
            return
    command("--db", "c.db", "export", *draw.choice([["out"], ["--in-place"], ["out", "--pictures", "list"]]))
    if sorted(path.name for path in Path("..").iterdir()) != outside:
        raise Fault("an export left the folder")


def _sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def served(draw: random.Random) -> None:
    """Some requests to the pages; nothing is a 5xx, and nothing is stored where nothing may be."""
    from curate.review.web import server

    path = Path("c.db")
    hostile_run(draw, path)
    writing = draw.random() < 0.5
    made = server(path, writing=writing, hosts=frozenset({"localhost", "127.0.0.1"}))

    async def ask() -> None:
        for _ in range(4):
            page = draw.choice(["/-/review", "/c", "/c/examples", "/c/review_queue", "/c/examples/1", "/", "/c.json",
                                "/-/review/verdict", "/nothing", f"/c/{odd(draw)}"])  # fmt: skip
            names = [
                "page",
                "q",
                "rules",
                "given",
                "order",
                "dataset",
                "said",
                "refused",
                "sql",
                "_size",
                "_next",
                "_sort",
            ]
            query = {draw.choice(names): odd(draw).encode("utf-8", "replace").decode() for _ in range(2)}
            headers = {"host": draw.choice(["localhost", "localhost", "localhost", "[::1].evil.com", "evil", ""])}
            method = draw.choice(["GET", "GET", "GET", "POST", "HEAD"])
            address = re.sub(r"[\x00-\x20\x7f-\U0010ffff]", "_", page)
            form = {
                "say": f"{draw.choice(['1', '9' * 50, odd(draw)])} {draw.choice(['keep', odd(draw)])}",
                "run": odd(draw),
            }
            more = (
                {"data": {k: v.encode("utf-8", "replace").decode() for k, v in form.items()}}
                if method == "POST"
                else {}
            )
            try:
                answer = await made.client.request(method, address, params=query, headers=headers, **more)
            except (UnicodeError, ValueError) as error:  # the client's own: no such address can be asked for
                if "httpx" in type(error).__module__ or isinstance(error, UnicodeError):
                    continue
                raise
            if answer.status_code >= 500:
                raise Fault(f"{answer.status_code} on {method} {address} {query}")
            if "<script>alert" in answer.text:
                raise Fault(f"markup of the data on {address}")

    asyncio.run(ask())
    with Store.open(path) as store:
        if store.query("SELECT count(*) AS n FROM reviews") != [{"n": 0}]:  # no form held its token
            raise Fault("a verdict was stored by a stranger's post")
