"""`python:`: every form of item and of data set, rows that fail, and one message for each way to be wrong."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from curate.cli import main
from curate.errors import CurateError, DataError, NothingScanned, UnreadableRow, UsageError
from curate.models.loading import LoadedModel
from curate.models.transforms import make_transform
from curate.settings.merge import load_settings
from curate.sources import Source, mapped, open_source

HEAD = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
"""


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code(text: str, name: str = "data.py") -> None:
    Path(name).write_text(HEAD + textwrap.dedent(text))


def opened(text: str, name: str = "make", **options: object) -> Source:
    code(text)
    return open_source(f"python:data.py:{name}", **options)[0]  # type: ignore[arg-type]


def items(expression: str, **options: object) -> Source:
    """A data set that is a list of items."""
    return opened(f"make = {expression}", **options)


class TestInputs:
    def test_pil_pictures_become_rgb_and_upright(self) -> None:
        source = opened(
            """
            def rotated():
                picture = Image.new("L", (4, 2), 7)
                picture.getexif()[0x0112] = 6
                return picture
            make = [(rotated(), "a"), (Image.new("RGBA", (3, 3)), "b")]
            """
        )
        assert (source.media, source.kind, source.name) == ("image", "python", "data.py:make")
        picture = source.read(0).decode()
        assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGB", (2, 4), (7, 7, 7))

    @pytest.mark.parametrize(
        ("x", "media", "shape"),
        [
            ("np.full((5, 4), {i}, np.uint8)", "image", (5, 4)),
            ("np.full((5, 4, 3), {i}, np.uint8)", "image", (5, 4, 3)),
            ("np.full((3, 5, 6), {i}, np.uint8)", "image", (5, 6, 3)),
            ("torch.full((1, 5, 6), {i}, dtype=torch.uint8)", "image", (5, 6, 1)),
            ("np.arange(4.0) + {i}", "features", (4,)),
            ("torch.arange(4) + {i}", "features", (4,)),
            ("[{i}, 2, 3]", "features", (3,)),
            ("{i}.5", "features", (1,)),
            ("np.full((3, 5, 6), {i}.0)", "array", (3, 5, 6)),
            ("torch.full((3, 5, 6), {i}, dtype=torch.bfloat16)", "array", (3, 5, 6)),
        ],
    )
    def test_numbers(self, x: str, media: str, shape: tuple[int, ...]) -> None:
        source = items(f"[({x.format(i=1)}, 'a'), ({x.format(i=2)}, 'b')]")
        row = source.read(0).decode()
        assert (source.media, tuple(row.shape)) == (media, shape)
        assert isinstance(row, torch.Tensor) == x.startswith("torch") if media == "array" else True

    def test_text(self) -> None:
        source = items("[('good film', 1), ('bad film', 0)]")
        assert (source.media, source.read(1).decode()) == ("text", "bad film")

    def test_hashes_are_those_of_arrays(self) -> None:
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.savez("a.npz", x=x, y=np.array(["a", "b"]))
        there, _ = open_source("a.npz")
        here = opened(
            "make = TensorDataset(torch.arange(6, dtype=torch.float32).reshape(2, 3), torch.tensor([0, 1]))",
            classes=["a", "b"],
        )
        assert here.keys == there.keys
        assert here.read(1).content_sha256 == there.read(1).content_sha256

    def test_a_row_that_is_given_away_is_a_copy(self) -> None:
        source = items("[(torch.ones(1, 2, 2), 'a'), (torch.zeros(1, 2, 2), 'b')]")
        source.read(0).decode().zero_()
        assert source.read(0).decode().sum() == 4

    def test_tensors_that_the_data_set_made_meet_no_second_transform(self) -> None:
        source = items("[(torch.ones(1, 2, 2), 'a'), (torch.zeros(1, 2, 2), 'b')]")
        model = LoadedModel(nn.Conv2d(1, 1, 1), lambda row: 1 / 0, "net.py:make", None, "0", [])
        transform, notes = make_transform(model, source)
        assert transform(source.read(0).decode()).equal(torch.ones(1, 2, 2))
        assert "transform was not applied" in notes[0]
        assert not items("[(np.ones((1, 2, 2)), 'a'), (np.zeros((1, 2, 2)), 'b')]").ready


class TestForms:
    def test_dicts_with_usual_and_other_names(self) -> None:
        usual = items("[{'image': np.eye(2)[i], 'label': i, 'id': f'r{i}'} for i in range(2)]")
        assert (usual.keys, usual.label_texts) == (["r0", "r1"], ["0", "1"])
        code("make = [{'a': np.eye(2)[i], 'b': i, 'c': 7 + i, 'x': 0} for i in range(2)]")
        other, _ = open_source("python:data.py:make", input="a", label="b", id="c")
        assert (other.keys, other.read(1).decode().tolist()) == (["7", "8"], [0, 1])

    def test_keys_of_items_and_of_content(self) -> None:
        keyed = items("[(np.eye(2)[i], i, torch.tensor(10 + i)) for i in range(2)]")
        assert keyed.keys == ["10", "11"]
        rows = "[(np.arange(3.0) + i % 4, i % 3) for i in range(8)]"
        here, there = items(rows), items(f"{rows}[::-1]")
        assert here.keys == there.keys[::-1]
        assert len(set(here.keys)) == 8
        assert here.positions == list(range(8))

    @pytest.mark.parametrize(
        ("labels", "texts"),
        [
            ("[0, 1, None]", ["0", "1", None]),
            ("['cat', 'dog', ' ']", ["cat", "dog", None]),
            ("[0.0, 1.0, float('nan')]", ["0", "1", None]),
            ("[torch.tensor(3), np.int64(4), torch.tensor([3])]", ["3", "4", "3"]),
            ("[True, False, np.bool_(True)]", ["True", "False", "True"]),
            ("[b'a', np.str_('b'), None]", ["a", "b", None]),
        ],
    )
    def test_labels(self, labels: str, texts: list[str | None]) -> None:
        assert items(f"[(np.eye(3)[i], y) for i, y in enumerate({labels})]").label_texts == texts

    def test_what_may_make_a_data_set(self) -> None:
        code(
            """
            class Rows(Dataset):
                def __len__(self): return 4
                def __getitem__(self, i): return np.eye(4)[i], i % 2
            ready = Rows()
            def make(size=4): return Rows()
            def needs(size): return Rows()
            part = Subset(Rows(), [1, 2])
            both = ConcatDataset([Rows(), Rows()])
            loader = DataLoader(Rows(), batch_size=2)
            """
        )
        lengths = {"Rows": 4, "ready": 4, "make": 4, "part": 2, "both": 8, "loader": 4}
        for name, length in lengths.items():
            source, held_out = open_source(f"python:data.py:{name}")
            assert (len(source), held_out) == (length, None), name
        assert "DataLoader was taken" in open_source("python:data.py:loader")[0].notes[0]

    @pytest.mark.parametrize(
        "parts",
        ["(train, test)", "{'train': train, 'test': test}", "{'train': train, 'validation': test, 'test': train}",
         "{'train': train, 'val': None, 'valid': DataLoader(test)}"],
    )  # fmt: skip
    def test_two_parts(self, parts: str) -> None:
        code(
            f"""
            train = [(np.arange(2.0) + i, "ab"[i % 2]) for i in range(6)]
            test = [(np.arange(2.0) - i, "a") for i in range(1, 4)]
            make = lambda: {parts}
            make.__module__ = __name__
            """
        )
        train, held_out = open_source("python:data.py:make")
        assert held_out is not None
        assert (len(train), len(held_out), held_out.labels) == (6, 3, [0, 0, 0])
        assert (held_out.classes, held_out.name) == (train.classes, train.name)
        alone, none = open_source("python:data.py:make", classes=train.classes, evaluation=True)
        assert (len(alone), none) == (3, None)

    def test_random_split_gives_a_list(self) -> None:
        code(
            """
            from torch.utils.data import random_split
            def make():
                rows = TensorDataset(torch.eye(8), torch.arange(8) % 2)
                return random_split(rows, [6, 2], torch.Generator().manual_seed(0))
            """
        )
        train, held_out = open_source("python:data.py:make")
        assert held_out is not None
        assert (len(train), len(held_out)) == (6, 2)

    def test_one_part_of_two(self) -> None:
        code("make = ([(np.eye(2)[i], i) for i in range(2)], None)")
        assert open_source("python:data.py:make")[1] is None

    def test_a_module_and_neighbours(self, cwd: Path) -> None:
        (cwd / "rows_for_this_test.py").write_text("rows = [([1.0], 0), ([2.0], 1)]\n")
        (cwd / "deep").mkdir()
        (cwd / "deep/near_for_this_test.py").write_text("rows = [([1.0], 0), ([2.0], 1)]\n")
        (cwd / "deep/data.py").write_text("def make():\n    from near_for_this_test import rows\n    return rows\n")
        source, _ = open_source("python:rows_for_this_test:rows")
        assert (len(source), source.name) == (2, "rows_for_this_test:rows")
        source, _ = open_source("python:deep/data.py:make", name="mine")
        assert (source.name, source.location) == ("mine", "python:deep/data.py:make")
        assert not list(cwd.rglob("__pycache__"))


CLASSES = """
class Pets(Dataset):
    def __init__(self, names, labels): self.classes, self.y = names, labels
    def __len__(self): return len(self.y)
    def __getitem__(self, i): return np.arange(3.0) * i + len(self.y), self.y[i]
def make(): return Pets(["dog", "cat"], [0, 1, 0]), Pets(["dog", "cat"], [1, 1])
train = Pets(["dog", "cat"], [0, 1, 0])
turned = Pets(["cat", "dog"], [0, 1])
other = Pets(["cat", "horse"], [0, 1])
part = Subset(train, [0, 1])
both = ConcatDataset([train, Pets(["dog", "cat"], [1])])
texts = Pets(["dog", "cat"], ["cat", "dog"])
mapping = Pets(None, [5, 3, 5])
mapping.class_to_idx = {"cat": 3, "dog": 5}
synonyms = Pets([("crane", "bird"), ("crane", "machine"), ("dog",)], [0, 1, 2])
"""


class TestClasses:
    def test_names_of_the_data_set(self) -> None:
        code(CLASSES)
        for name, texts in {
            "train": ["dog", "cat", "dog"], "part": ["dog", "cat"], "both": ["dog", "cat", "dog", "cat"],
            "texts": ["cat", "dog"],
        }.items():  # fmt: skip
            source, _ = open_source(f"python:data.py:{name}")
            assert (source.classes, source.label_texts) == (["dog", "cat"], texts), name
        mapping, _ = open_source("python:data.py:mapping")
        assert (mapping.classes, mapping.labels) == (["cat", "dog"], [1, 0, 1])
        synonyms, _ = open_source("python:data.py:synonyms")
        assert synonyms.classes == ["crane (0)", "crane (1)", "dog"]

    def test_given_names_win(self) -> None:
        code(CLASSES)
        order, _ = open_source("python:data.py:train", classes=["cat", "bird", "dog"])
        assert (order.labels, order.label_texts) == ([2, 0, 2], ["dog", "cat", "dog"])
        renamed, held_out = open_source("python:data.py:make", classes=["dog", "moggy"])
        assert held_out is not None
        assert (renamed.label_texts, held_out.label_texts) == (["dog", "moggy", "dog"], ["moggy", "moggy"])

    def test_an_evaluation_set_is_read_by_its_own_names(self) -> None:
        code(CLASSES)
        turned, _ = open_source("python:data.py:turned", classes=["dog", "cat"], evaluation=True)
        assert (turned.labels, turned.label_texts) == ([1, 0], ["cat", "dog"])
        with pytest.raises(DataError, match="'horse' of row 1 is not one of the classes"):
            open_source("python:data.py:other", classes=["dog", "cat"], evaluation=True)


FAILING = """
class Rows(Dataset):
    {targets}
    def __len__(self): return 30
    def __getitem__(self, i):
        if i in (4, 20):
            raise OSError(f"cannot open {{i}}.png")
        if i == 9:
            return None
        return np.arange(3.0) * i, i % 3
"""


class TestRows:
    def test_an_item_that_raises_is_an_unreadable_row(self) -> None:
        source = opened(FAILING.format(targets=""), "Rows")
        assert set(source.malformed) == {4, 9, 20}
        assert source.labels[4] == -1
        assert source.keys[4].startswith("unreadable-")
        assert opened("\n\n" + FAILING.format(targets=""), "Rows").keys == source.keys
        with pytest.raises(UnreadableRow, match=r"__getitem__ failed at data.py:11 with OSError: cannot open 4.png"):
            source.read(4)
        with pytest.raises(UnreadableRow, match="gives None"):
            source.read(9)

    def test_their_labels_are_known_where_the_data_set_tells_them(self) -> None:
        told = opened(FAILING.format(targets="targets = torch.arange(30) % 3"), "Rows")
        assert (told.malformed, told.label_texts[4], told.labels[20]) == ({}, "1", 2)
        with pytest.raises(UnreadableRow):
            told.read(4)
        untrue = opened(FAILING.format(targets="targets = torch.arange(30) % 4"), "Rows")
        assert set(untrue.malformed) == {4, 9, 20}

    def test_rows_of_another_kind_are_unreadable(self) -> None:
        source = items("[(np.eye(3)[i], i) for i in range(3)] + [('text', 0), (np.eye(3)[0], [1, 2]), (object(), 1)]")
        assert source.malformed[3] == "it is of the kind 'text', row 0 of the kind 'features'"
        assert source.malformed[4] == "it has 2 labels"
        assert "a object as its input" in source.malformed[5]

    def test_what_does_not_fit_into_memory_is_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mapped, "KEPT_BYTES", 60)
        source = opened(
            """
            class Rows(Dataset):
                moved = 0
                def __len__(self): return 4
                def __getitem__(self, i): return np.arange(3.0) + i + self.moved, i % 2
            make = Rows()
            """
        )
        assert source.read(3).decode().tolist() == [3, 4, 5]
        source._dataset.moved = 1  # type: ignore[attr-defined]
        assert source.read(0).decode().tolist() == [0, 1, 2]
        with pytest.raises(DataError, match="row 3 is not what it was"):
            source.read(3).decode()


class TestMessages:
    def check(self, text: str, *words: str, kind: type[CurateError] = DataError, **options: object) -> None:
        """``text`` is an expression for the list of items, or code that binds ``make``."""
        code(text if "make" in text else f"make = {text}")
        with pytest.raises(kind) as caught:
            open_source("python:data.py:make", **options)  # type: ignore[arg-type]
        self.said(caught.value, words)

    def said(self, error: CurateError, words: tuple[str, ...]) -> None:
        said = str(error)
        assert all(word in said for word in words), said
        assert said.count("\n") <= 1
        assert error.exit_status == (5 if isinstance(error, NothingScanned) else 2)

    @pytest.mark.parametrize(
        ("spec", "kind", "words"),
        [
            ("python:data.py", DataError, ("python:data.py does not say what makes the data set", "rows, make")),
            ("python:data.py:mak", DataError, ("data.py has no 'mak'", "Did you mean make?")),
            ("python:dtaa.py:make", DataError, ("no data set file dtaa.py", "Did you mean data.py?")),
            ("python:not_there.here:f", DataError, ("no Python module 'not_there'", "python:file.py:function")),
            ("python:a folder/x:f", UsageError, ("names no Python code", "python:file.py:function")),
            ("data.py:make", UsageError, ("is Python code", "Give python:data.py:make")),
            ("deep/data.py:make", UsageError, ("is Python code", "Give python:deep/data.py:make")),
            ("python:data.py:broken", DataError, ("failed at data.py:9 with KeyError", "data set's own code")),
            ("python:data.py:needs", DataError, ("missing a required argument: 'root'", "function without arguments")),
        ],
    )
    def test_code(self, spec: str, kind: type[CurateError], words: tuple[str, ...]) -> None:
        code("""
        rows = [([1.0], 0), ([2.0], 1)]
        def make(): return rows
        def broken():
            return {}["a"]
        def needs(root): return rows
        """)
        with pytest.raises(kind) as caught:
            open_source(spec)
        self.said(caught.value, words)

    def test_options_of_other_kinds(self) -> None:
        self.check("[([1.0], 0), ([2.0], 1)]", "--label names a part of a dict", kind=UsageError, label="y")
        self.check("[([1.0], 0), ([2.0], 1)]", "--split is of tables", kind=UsageError, split="s")
        self.check("[([1.0], 0), ([2.0], 1)]", "--no-header is of tables", kind=UsageError, header=False)

    def test_what_is_no_data_set(self) -> None:
        self.check("def make(): return 3", "is a int, no data set", "map-style")
        self.check("make = 3", "is a int, no data set")
        self.check("def make(): return np.eye(2), np.arange(2)", "two arrays", "list(zip(x, y))")
        self.check("make = ([], [], [])", "gives 3 things", "pair (train, eval)")
        self.check("make = {'tain': []}", "without a part called train", "Did you mean tain?")
        self.check("make = {'train': 3}", "the part 'train' is a int")
        self.check("def make(): yield 1", "is a stream of rows (generator)", "map-style")
        self.check(
            """
            class make(IterableDataset):
                def __len__(self): return 2
                def __iter__(self): return iter([])
            """,
            "is a stream of rows (make)",
        )
        self.check(
            """
            class make(Dataset):
                def __len__(self): raise TypeError("unknown")
                def __getitem__(self, i): return 0
            """,
            "the length of the data set is not known: __len__ failed at data.py:7 with TypeError: unknown",
        )

    def test_no_row(self) -> None:
        self.check("[]", "has no row", kind=NothingScanned)
        self.check("[None, None]", "none of the 2 rows can be read; row 0: the data set gives", kind=NothingScanned)
        self.check("[([1.0], None), ([2.0], None)]", "every label is blank", kind=NothingScanned)

    def test_items_of_another_form(self) -> None:
        self.check("[3, 4]", "row 0 is a int, not an input with its label", "(input, label, key)")
        self.check("TensorDataset(torch.eye(2))", "row 0 is a tuple of 1")
        self.check("[{'pic': 1, 'y': 0}]", "row 0 has no part called x, image", "items hold pic, y", "--input")
        self.check("[{'x': 1, 'text': 'a', 'y': 0}]", "holds x and text, and each could be meant", "--input")
        self.check("[{'x': 1, 'y': 0}]", "has no 'z' (--label)", label="z")
        self.check("[({'ids': 1}, 0)]", "row 0 has a dict as its input")
        self.check("[(1j, 0)]", "row 0 has a complex as its input")
        self.check("[(np.ones(2, complex), 0)]", "complex128, which is no number")
        self.check("[([], 0)]", "row 0 has an empty input")
        self.check("[([[1], [1, 2]], 0)]", "make no array")

    def test_labels_that_are_not_single(self) -> None:
        rows = "[(np.eye(4)[i], y) for i, y in enumerate({})]"
        self.check(rows.format("np.eye(4)"), "4 x 4: one-hot labels", "y.argmax()")
        self.check(rows.format("torch.full((4, 2), 0.5)"), "soft labels", "single-label")
        self.check(rows.format("[[1, 1, 0]] * 4"), "multi-label", "single-label")
        self.check(rows.format("[[1, 1, 0], [1], [2, 3], []]"), "row 0 holds several (multi-label)")
        self.check(rows.format("[['a', 'b']] * 4"), "2 texts as its label")
        self.check(rows.format("np.ones((4, 5, 5))"), "4 x 5 x 5; labels are one value a row")
        self.check(rows.format("[Image.new('L', (4, 4))] * 4"), "this is segmentation")
        self.check(rows.format("[{'boxes': 1, 'labels': 2}] * 4"), "boxes: this is detection (boxes, labels)")
        self.check(rows.format("[[{'bbox': 1}]] * 4"), "this is detection")
        self.check("[{'image': 1, 'boxes': 2}]", "row 0 holds boxes: this is detection")
        self.check(rows.format("[0.5, 1.5, 2, 3]"), "not whole (0.5 in row 0): this looks like regression")
        self.check(rows.format("[object()] * 4"), "has a object as its label")
        self.check(rows.format("[2**70, 1, 1, 1]"), "too large")
        self.check("[([float(i)], i) for i in range(30)]", "30 different labels on 30 rows")
        self.check(rows.format("[1, 1, 1, 1]"), "every row has the label '1'")

    def test_keys(self) -> None:
        rows = "[(np.eye(4)[i], i % 2, key) for i, key in enumerate({})]"
        self.check(rows.format("'abca'"), "the key holds 'a' twice (rows 0 and 3)")
        self.check(rows.format("['a', 'b', ' ', 'd']"), "the key is blank in row 2")
        self.check(rows.format("[None] * 3 + ['d']"), "the key is blank in row 0")
        self.check(rows.format("[0.5] * 4"), "row 0 has a float where its key would be", "(input, label)")
        self.check(rows.format("[{'weight': 1}] * 4"), "row 0 has a dict where its key would be")
        self.check(rows.format("torch.eye(4)"), "row 0 has a Tensor where its key would be")

    def test_numbers(self) -> None:
        self.check("[([1.0, float('nan')], 0), ([2.0, 1], 1)]", "1 of 2 rows hold NaN", "the first is row 0")
        self.check("[([1.0, 2], 0), ([2.0], 1)]", "row 1 holds 1 numbers and row 0 2")

    def test_a_data_set_that_draws_at_random(self) -> None:
        self.check(
            """
            class make(Dataset):
                def __len__(self): return 4
                def __getitem__(self, i): return np.random.default_rng().random(3), i % 2
            """,
            "row 0 differs from one read to the next", "transform of evaluation",
        )  # fmt: skip


class TestSettings:
    def test_code_of_data_is_found_beside_the_file(self, cwd: Path) -> None:
        (cwd / "deep").mkdir()
        (cwd / "deep/curate.toml").write_text('train = "python:data.py:make"\neval = "python:pkg.mod:f"\n')
        settings = load_settings({"train": "deep"}, environ={})
        assert (settings.train, settings.eval) == ("python:deep/data.py:make", "python:pkg.mod:f")
        (cwd / "deep/curate.toml").write_text('train = "torchvision:MNIST:files"\neval = "torchvision:MNIST"\n')
        settings = load_settings({"train": "deep"}, environ={})
        assert (settings.train, settings.eval) == ("torchvision:MNIST:deep/files", "torchvision:MNIST")

    @pytest.mark.parametrize("option", ["train", "eval"])
    def test_not_from_strangers(
        self, cwd: Path, tmp_path_factory: pytest.TempPathFactory, option: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        far = tmp_path_factory.mktemp("far")
        (far / "curate.toml").write_text(f'{option} = "python:data.py:make"\n')
        with pytest.raises(
            UsageError, match=rf"`{option}` names Python code.*outside of the current one\.\n.*--config"
        ):
            load_settings({"train": str(far)}, environ={})
        trusted = load_settings({"train": str(far)}, config=far / "curate.toml", environ={})
        assert getattr(trusted, option) == f"python:{far}/data.py:make"
        monkeypatch.chdir(far)
        assert getattr(load_settings({"train": "."}, environ={}), option) == "python:data.py:make"

    def test_an_eval_set_of_ones_own_overrules_the_strangers(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        far = tmp_path_factory.mktemp("far")
        (far / "curate.toml").write_text('eval = "python:data.py:make"\n')
        assert load_settings({"train": str(far), "eval": "mine"}, environ={}).eval == "mine"


def scan(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["scan", *arguments])


SCANNED = """
from torch import nn

class Blobs(Dataset):
    classes = ["low", "high"]
    def __init__(self, start, count):
        draw = np.random.default_rng(start)
        self.y = np.arange(count) % 2
        self.x = (draw.random((count, 1, 8, 8)) + self.y[:, None, None, None]).astype(np.float32)
    def __len__(self): return len(self.y)
    def __getitem__(self, i):
        if i == 7:
            raise ValueError("torn")
        return torch.from_numpy(self.x[i]), int(self.y[i])

def transform(picture):
    raise AssertionError("the rows are ready")

def make(): return {"train": Blobs(0, 60), "val": Blobs(1, 20)}
def flat(): return [(row.flatten(), y, f"r{i}") for i, (row, y) in enumerate(Blobs(0, 60)[i] for i in range(7))]

def build():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
"""


class TestScans:
    def test_a_training_script_is_data_and_model_at_once(self) -> None:
        code(SCANNED)
        result = scan("python:data.py:make", "--model", "data.py:build", "--fail-on", "unreadable")
        assert result.exit_code == 1, result.output
        assert "59 training rows in 2 classes and 19 evaluation rows" in result.output
        assert "data.py:17 with ValueError: torn" in " ".join(result.output.split())
        shown = CliRunner().invoke(main, ["report", "-f", "json"])
        assert "the model's own transform was not applied" in shown.output

    def test_features_need_no_model(self) -> None:
        code(SCANNED)
        result = scan("python:data.py:flat")
        assert result.exit_code == 0, result.output
        assert "7 training rows in 2 classes" in result.output

    @pytest.mark.parametrize(("name", "status"), [("nothing", 5), ("gone", 2)])
    def test_exit_status(self, name: str, status: int) -> None:
        code("nothing = []")
        result = scan(f"python:data.py:{name}")
        assert result.exit_code == status
        assert "Traceback" not in result.output


def test_opening_a_list_of_items_does_not_import_torch(cwd: Path) -> None:
    (cwd / "rows.py").write_text("rows = [([1.0], 0), ([2.0], 1)]\n")
    run = "import sys, curate.sources as s; s.open_source('python:rows.py:rows'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", run], check=True)
