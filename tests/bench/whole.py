"""What whole scans of larger real sets cost: `curate scan` as anybody types it, in an empty folder.

    python tests/bench/whole.py fashion                 60,000 + 10,000 pictures through a CNN of 49,022 parameters
    python tests/bench/whole.py texts FOLDER            10,000 texts of 1,500 characters, 77 classes, no model
    python tests/bench/whole.py bert FOLDER             banking77 through a BERT of two layers (needs transformers)
    python tests/bench/whole.py photos FOLDER          flowers5 read through a ResNet-18 at 224 pixels, beside a loop

Prints processor and wall seconds, the former also in products of two matrices (`scale.py`) and, where there is a model,
in forward-backward passes over its training rows; peak memory, and average precision on labels that were changed here.
FOLDER holds banking77/train.parquet and flowers5/. What is trained is kept in ``.cache/bench``
(``CURATE_BENCH_HOME``).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import fashion
import numpy as np
import torch
from scale import HERE, product_seconds, scan
from torch import Tensor, nn
from torch.nn import functional as F

SHARE = 0.05
"""Of the labels is changed."""
TEXTS, CHARACTERS = 10_000, 1_500
BATCH = 256
PHOTOS = 400
LOADER = """
import torch
from torchvision import models, transforms

transform = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor()])

def make():
    torch.manual_seed(0)
    return models.resnet18(num_classes=5).eval()
"""


def pass_seconds(batches: Iterable[Callable[[], Tensor]]) -> float:
    """Processor seconds of the losses of all batches, there and back."""
    started = time.process_time()
    for loss in batches:
        loss().backward()
    return time.process_time() - started


def told(name: str, wrong: dict[str, bool], one_pass: float | None, *command: str) -> None:
    """Scan, and print a line."""
    from sklearn.metrics import average_precision_score

    unit = product_seconds()
    cost = scan(HERE, *command)
    known = [key for key in cost.suspicion if key in wrong]
    precision = average_precision_score([wrong[key] for key in known], [cost.suspicion[key] for key in known])
    passes = "" if one_pass is None else f", {cost.processor / one_pass:.1f} passes of {one_pass:.1f} s"
    print(
        f"{name}: {cost.processor:.1f} processor s ({cost.processor / unit:.0f} products{passes}), "
        f"{cost.wall:.1f} s, {cost.peak:.2f} GB, average precision {precision:.4f}",
        flush=True,
    )


def of_fashion() -> None:
    """60,000 pictures, a twentieth of the labels changed, and 10,000 to evaluate on."""
    folder = fashion.make(60_000, 10_000, SHARE, epochs=3)
    given, clean = np.load(folder / "train.npz")["y"], np.load(folder / "clean.npy")
    ids = np.arange(len(given)).astype(str)
    pixels = np.load(folder / "train.npz")["x"]
    model = fashion.factory()
    x = torch.stack([fashion.transform(image) for image in pixels])
    y = torch.from_numpy(np.unique(given, return_inverse=True)[1])
    one_pass = pass_seconds(
        (lambda rows=rows: F.cross_entropy(model(x[rows]), y[rows])) for rows in torch.arange(len(x)).split(BATCH)
    )
    with TemporaryDirectory() as place:
        data = Path(place) / "train.npz"
        np.savez(data, x=pixels, y=given, id=ids)
        held_out = dict(np.load(folder / "eval.npz"))
        np.savez(Path(place) / "eval.npz", **held_out, id=np.arange(len(held_out["y"])).astype(str))
        wrong = dict(zip(ids.tolist(), (given != clean).tolist(), strict=True))
        told(
            "Fashion-MNIST", wrong, one_pass, str(data), "--id", "id", "--eval", f"{place}/eval.npz", "--model",
            f"{folder}/model.py:factory", "--weights", f"{folder}/weights.safetensors",
        )  # fmt: skip


def requests(folder: Path) -> tuple[list[str], list[str], dict[str, bool]]:
    """banking77's texts, their labels with a twentieth changed, and whether each was, by its number."""
    import pandas as pd

    table = pd.read_parquet(folder / "banking77" / "train.parquet")
    labels = table["label"].to_numpy(str)
    draw = np.random.default_rng(0)
    wrong = draw.random(len(labels)) < SHARE
    other = draw.permutation(labels)
    given = np.where(wrong, other, labels)
    changed = {str(row): bool(there) for row, there in enumerate(given != labels)}
    return table["text"].tolist(), given.tolist(), changed


def table_of(place: Path, texts: list[str], given: list[str]) -> Path:
    import pandas as pd

    file = place / "texts.csv"
    pd.DataFrame({"id": range(len(texts)), "text": texts, "label": given}).to_csv(file, index=False)
    return file


def of_texts(folder: Path) -> None:
    """Each text and others of its label, up to 1,500 characters; no two rows are alike."""
    texts, given, wrong = requests(folder)
    draw = np.random.default_rng(0)
    texts, given = texts[:TEXTS], given[:TEXTS]
    # A row is made of requests that have its true label: the labels that were changed are wrong of all of it.
    groups: dict[str, list[str]] = {}
    for text, label, row in zip(texts, given, range(len(texts)), strict=True):
        if not wrong[str(row)]:
            groups.setdefault(label, []).append(text)
    every = [text for group in groups.values() for text in group]
    of_text = {text: label for label, group in groups.items() for text in group}
    long = []
    for text in texts:
        others = groups[of_text[text]] if text in of_text else every
        parts = [text]
        while sum(map(len, parts)) + len(parts) < CHARACTERS:
            parts.append(others[draw.integers(len(others))])
        long.append(" ".join(parts)[:CHARACTERS])
    with TemporaryDirectory() as place:
        file = table_of(Path(place), long, given)
        told("texts", wrong, None, str(file), "--label", "label", "--id", "id")


def of_bert(folder: Path) -> None:
    """Two layers of 128 columns, trained for three epochs on the labels as they are given."""
    import transformers
    from tokenizers import BertWordPieceTokenizer

    texts, given, wrong = requests(folder)
    names = sorted(set(given))
    labels = torch.tensor([names.index(label) for label in given])
    home = fashion.HOME / "bert-banking77"
    home.mkdir(parents=True, exist_ok=True)
    words = BertWordPieceTokenizer()
    words.train_from_iterator(texts, vocab_size=3_000)
    words.save_model(str(home))
    tokenizer = transformers.BertTokenizerFast(str(home / "vocab.txt"))
    shape = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=512, num_labels=len(names), id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(shape)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")

    def losses(size: int) -> Iterable[Callable[[], Tensor]]:
        for rows in torch.randperm(len(texts)).split(size):
            some = {name: values[rows] for name, values in inputs.items()}
            yield lambda some=some, rows=rows: model(**some, labels=labels[rows]).loss

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(3):
        for loss in losses(64):
            optimiser.zero_grad(set_to_none=True)
            loss().backward()
            optimiser.step()
    one_pass = pass_seconds(losses(BATCH))
    model.eval().save_pretrained(home)
    tokenizer.save_pretrained(home)
    with TemporaryDirectory() as place:
        file = table_of(Path(place), texts, given)
        told("BERT", wrong, one_pass, str(file), "--label", "label", "--id", "id", "--model", f"hf:{home.resolve()}")


def of_photos(folder: Path) -> None:
    """Reading, decoding and the forward pass, by curate and by a loop over the same files at the best batch size."""
    from PIL import Image

    from curate.process.progress import Progress
    from curate.settings.merge import ScanSettings
    from curate.stages.prepare import load, read

    with TemporaryDirectory() as place:
        data, code = Path(place) / "photos", Path(place) / "model.py"
        code.write_text(LOADER)
        for name in sorted(path.name for path in (folder / "flowers5").iterdir() if path.is_dir()):
            (data / name).mkdir(parents=True)
            for file in sorted((folder / "flowers5" / name).glob("*.jpg"))[: PHOTOS // 5]:
                (data / name / file.name).symlink_to(file.resolve())
        names: dict[str, object] = {}
        exec(LOADER, names)
        model, transform = names["make"](), names["transform"]  # type: ignore[operator]
        assert isinstance(model, nn.Module)
        files = sorted(data.rglob("*.jpg"))
        loops = {}
        for size in (8, 32, 128):
            started = time.process_time()
            with torch.no_grad():
                for first in range(0, len(files), size):
                    pictures = [Image.open(file).convert("RGB") for file in files[first : first + size]]
                    model(torch.stack([transform(picture) for picture in pictures]))  # type: ignore[operator]
            loops[size] = time.process_time() - started
        settings = ScanSettings(str(data), model=f"{code}:make", cache=False, db=str(Path(place) / "curate.db"))
        loaded = load(settings, Progress.silent())
        started = time.process_time()
        read(settings, loaded, Progress.silent())
        took = time.process_time() - started
    best = min(loops, key=lambda size: loops[size])
    print(f"{len(files)} photos: {took:.1f} processor s, a loop {loops[best]:.1f} (batches of {best})")
    print(f"  {took / loops[best]:.2f} times; loops: {', '.join(f'{size}: {loops[size]:.1f}' for size in loops)}")


WAYS = {"texts": of_texts, "bert": of_bert, "photos": of_photos}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["fashion", *WAYS])
    parser.add_argument("folder", type=Path, nargs="?")
    asked = parser.parse_args()
    if asked.set == "fashion":
        of_fashion()
    elif asked.folder is None:
        sys.exit(f"{asked.set} needs the folder of the data")
    else:
        WAYS[asked.set](asked.folder)


if __name__ == "__main__":
    main()
