"""A small run, filled by hand: what the tests of the reading half stand on."""

from pathlib import Path

from curate.store import ExampleRecord, FindingRecord, ReceiptRecord, Store

CLASSES = ["cat", "dog", "[bold]hen[/bold]"]
HOSTILE = "dog/\x1b[31m[bold]x[/bold]\n.png"


def train_rows() -> list[ExampleRecord]:
    keys = [f"{CLASSES[i % 2]}/{i:02d}.png" for i in range(10)]
    keys[3] = HOSTILE
    return [
        ExampleRecord("train", key, i, f"{i:064x}", CLASSES[2 if i == 5 else i % 2], f"pets/train/{key}", seen=True)
        for i, key in enumerate(keys)
    ]


def eval_rows() -> list[ExampleRecord]:
    return [
        ExampleRecord("eval", f"cat/{i:02d}.png", i, f"{100 + i:064x}", "cat", f"pets/val/cat/{i:02d}.png", seen=False)
        for i in (0, 1, 2)
    ]


def begin(store: Store, dataset_id: int, **more: object) -> int:
    facts: dict[str, object] = {
        "settings": {"params": "all"}, "seed": 3, "versions": {"curate": "0.1.0"}, "model": "model.py:net",
        "weights_sha256": "ab" * 32, "device": "cpu", "git_commit": None, "gate": None,
    }  # fmt: skip
    return store.begin_run(dataset_id, **{**facts, **more})  # type: ignore[arg-type]


def finish(store: Store, run_id: int, **more: object) -> None:
    facts: dict[str, object] = {
        "counts": {"scored": 13, "reused": 0, "unreadable": 0, "eval_loss": 0.5}, "accuracy_head": 0.9,
        "accuracy_probe": 0.8, "seconds": 1.5, "peak_memory": 10**8, "notes": ["harm is from all parameters"],
    }  # fmt: skip
    store.finish_run(run_id, "finished", **{**facts, **more})  # type: ignore[arg-type]


def fill(path: Path, name: str = "pets", gate: dict[str, object] | None = None) -> int:
    """One finished run in the database; its id."""
    with Store.open(path, create=True) as store:
        dataset = store.dataset(name, name, "images")
        store.set_labels(dataset, [(label, index) for index, label in enumerate(CLASSES)])
        run = begin(store, dataset, gate=gate)
        train = store.add_examples(dataset, train_rows())
        evaluation = store.add_examples(dataset, eval_rows())
        store.add_scores(
            run,
            [
                {
                    "example_id": example, "suspicion": 0.95 - 0.1 * place, "rank": place + 1,
                    "loss": 3.0 - 0.2 * place, "self_influence": 0.1, "harm": 0.01 - 0.003 * place,
                    "suggested_label": CLASSES[(place + 1) % 2], "suggested_probability": 0.9 - 0.05 * place,
                }
                for place, example in enumerate(train)
            ],
        )  # fmt: skip
        store.add_scores(run, [{"example_id": example, "suspicion": 0.2, "rank": 1} for example in evaluation])
        spoke = {"detectors": {"loss": 3.0}}
        store.add_findings(
            run,
            [
                FindingRecord(train[0], "mislabeled", "error", 0.95, spoke, "its neighbours are dogs"),
                FindingRecord(train[3], "mislabeled", "warning", 0.65, {}, "why \x1b[31mred\x07"),
                FindingRecord(train[0], "conflict", "error", None, {}, "same pixels as dog/01.png"),
                FindingRecord(evaluation[1], "mislabeled", "warning", 0.7, {}, "an evaluation row"),
            ],
        )  # fmt: skip
        store.add_influences(
            run,
            [
                (evaluation[0], train[0], -0.3, -1),
                (evaluation[0], train[1], 0.2, 1),
                (evaluation[2], train[0], -0.4, -1),
            ],
        )
        store.add_receipts(
            run,
            [
                ReceiptRecord(
                    "evaluation influence", "lissa", "ggn", "all", 1e-4, 4e-3, 0.021, 0.03, 400, 1.2, 0.93, 0.88, 0.97
                ),
                ReceiptRecord("self-influence", "exact", "ggn", "head", damping=0.01, detail={"mean_leverage": 0.1}),
            ],
        )
        finish(store, run)
    return run
