"""The page on notebooks, and a trial with known wrong labels, as cells that a kernel of Jupyter runs."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel")
pytest.importorskip("pandas")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]
START = """
import signal
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
"""
LISTS = """
draw = np.random.default_rng(0)
changed = draw.choice(1400, 60, replace=False)
x, y = data.tensors[0][:1400], data.tensors[1][:1400].clone()
y[changed] = (y[changed] + torch.tensor(draw.integers(1, 10, 60))) % 10
network = train(torch.utils.data.TensorDataset(x, y), seed=1)
found = curate.scan([(x[i].numpy(), int(y[i]), f"digit {i}") for i in range(1400)], model=network, name="lists")
scores, flagged = found.to_pandas(), {row["key"] for row in found.findings if row["rule"] == "mislabeled"}
assert list(scores["key"]) == [f"digit {i}" for i in range(1400)] and scores["suspicion"].notna().all()
assert len(flagged & {f"digit {i}" for i in changed}) >= 55 and len(flagged) <= 80
"""
END = """
assert len(frame) == len(data) and suspect["suspicion"].is_monotonic_decreasing and len(suspect) > 0
assert effect.rows >= 40 and effect.answer in ("helped", "harmed", "cannot tell")
try:
    curate.scan(tickets, label="intnt")
except curate.CurateError as error:
    told = str(error)
assert "Did you mean intent" in told
assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
"""


def outputs(cell: Any, kind: str) -> list[Any]:
    return [output for output in cell.outputs if output.output_type == kind]


def shown(cell: Any) -> str:
    """The HTML of the cell's last value."""
    (result,) = outputs(cell, "execute_result")
    return str(result.data["text/html"])


def executed(here: Path, cells: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The cells after a kernel of this Python has run them. Raises what a cell raises."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(here / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", str(here))
    kernel = here / "kernels" / "here"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "Python", "language": "python"}))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="here").execute(cwd=str(here))
    return list(notebook.cells)


def test_the_page_is_a_notebook(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module and a data set, a table, features and probabilities of five folds, lists with 60 of 1,400 changed.

    A scan shows one bar, of which nothing is left; nothing is printed that the cell does not print.
    """
    page = (ROOT / "docs" / "how-to" / "notebook.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    cells = executed(here, [START, *blocks, LISTS, END], monkeypatch)
    scans = [cell for cell in cells if "curate.scan(" in cell.source and cell.source.strip() != END.strip()]
    for cell in scans:
        places = outputs(cell, "display_data")
        assert places, cell.source
        assert {place.data["text/html"] for place in places} == {"<span></span>"}
    for cell in cells:
        assert "print(" in cell.source or not outputs(cell, "stream"), cell.outputs
    assert len(scans) >= 4
    assert "<iframe" in shown(scans[0])
    assert "digits" in shown(scans[0])
    assert "<table" in shown(next(cell for cell in cells if 'label="intent"' in cell.source))
    assert (here / "report.html").exists()
