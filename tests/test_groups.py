"""``--group``: rows of one patient count as one, and a patient in both sets is a leak."""

import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from command import curate

from curate import scan
from curate.stages.groups import Groups, _linked, together

WRONG = (3, 11, 19)
"""Patients all of whose rows have the other label."""


def table(path: str, patients: range, seed: int) -> None:
    """Three nearly equal rows of each patient, two classes."""
    draw = np.random.default_rng(seed)
    lines = ["patient,a,b,label\n"]
    for patient in patients:
        kind = patient % 2
        place = draw.normal(4 * kind, 1, 2)
        for _ in range(3):
            a, b = place + draw.normal(0, 0.01, 2)
            lines.append(f"p{patient},{a:.4f},{b:.4f},{'xy'[kind ^ (patient in WRONG)]}\n")
    Path(path).write_text("".join(lines))


def suspicion(run: str) -> dict[str, float]:
    """The mean of each patient's rows."""
    with sqlite3.connect(".curate/curate.db") as store:
        rows = store.execute(
            "select e.text, s.suspicion from scores s join examples e on e.id = s.example_id "
            "where s.run_id = ? and e.split = 'train'",
            [run],
        ).fetchall()
    found: dict[str, list[float]] = {}
    lines = Path("train.csv").read_text().splitlines()[1:]
    patients = {f"a={line.split(',')[1]}": line.split(",")[0] for line in lines}
    for text, value in rows:
        found.setdefault(patients[text.split(", ")[0]], []).append(value)
    return {patient: float(np.mean(values)) for patient, values in found.items()}


def test_rows_of_one_patient_do_not_vouch_for_each_other(here: Path) -> None:
    table("train.csv", range(40), 0)
    said = curate("scan", "train.csv", "--group", "patient", "-v").output
    assert "40 groups; rows of one are left out together" in " ".join(said.split())
    assert "numbers in a, b" in " ".join(said.split())  # the column is no input
    curate("scan", "train.csv", "--input", "a,b")
    grouped, alone = suspicion("1"), suspicion("2")
    assert all(grouped[f"p{patient}"] > 0.5 for patient in WRONG)
    assert all(grouped[f"p{patient}"] > alone[f"p{patient}"] for patient in WRONG)
    assert np.mean([alone[f"p{patient}"] for patient in WRONG]) < 0.5


def test_large_groups_hide_no_wrong_label(here: Path) -> None:
    """Patients dealt at random tell nothing of the labels: left out or not, the same rows stand out."""
    draw = np.random.default_rng(0)
    lines, wrong = ["id,patient,a,b,c,label"], set(draw.permutation(300)[:15].tolist())
    for row in range(300):
        kind = row % 2
        values = ",".join(f"{value:.4f}" for value in draw.normal(3 * kind, 1, 3))
        lines.append(f"{row},p{draw.integers(10)},{values},{'xy'[kind ^ (row in wrong)]}")
    Path("train.csv").write_text("\n".join(lines) + "\n")
    found = [
        {row["key"] for row in scan("train.csv", id="id", input="a,b,c", group=group, progress=False).findings
         if row["rule"] == "mislabeled"}
        for group in (None, "patient")
    ]  # fmt: skip
    assert all(len(rows & {str(row) for row in wrong}) >= 11 for rows in found)
    assert len(found[0] ^ found[1]) <= 4


def test_one_group_of_all_rows_is_refused(here: Path) -> None:
    table("train.csv", range(10), 0)
    rows = Path("train.csv").read_text().splitlines()
    Path("train.csv").write_text("\n".join(["ward," + rows[0], *("w," + row for row in rows[1:])]) + "\n")
    said = curate("scan", "train.csv", "--group", "ward", status=2).output
    assert "--group ward: all rows are of one group" in said


def test_a_patient_in_both_sets_is_a_leak(here: Path) -> None:
    table("train.csv", range(20), 0)
    table("val.csv", range(18, 26), 1)
    done = curate("scan", "train.csv", "--eval", "val.csv", "--group", "patient", "-f", "json")
    leaks = [row for row in json.loads(done.stdout)["findings"] if row["rule"] == "leak"]
    assert len(leaks) == 6
    (end,) = {row["why"].split("; ")[1] for row in leaks}
    told = re.fullmatch(r"accuracy on this set is (.*) %, and (.*) % without its 6 rows that leak", end)
    assert told is not None
    assert 0 <= float(told[1]) * 24 - float(told[2]) * 18 <= 600  # six rows, each right or wrong
    assert {row["why"].split(";")[0] for row in leaks} == {
        f"patient p{patient} is in the training set too, with 3 rows" for patient in (18, 19)
    }


def test_gate_and_sarif_tell_a_patient_whom_a_split_parts(here: Path) -> None:
    table("both.csv", range(20), 0)
    header, *rows = Path("both.csv").read_text().splitlines()
    lines = [f"{header},split"]
    for place, row in enumerate(rows):  # all rows of two patients, and one of each of two others
        patient = row.split(",")[0]
        held = patient in ("p1", "p2") or (patient in ("p4", "p9") and place % 3 == 0)
        lines.append(f"{row},{'val' if held else 'train'}")
    Path("both.csv").write_text("\n".join(lines) + "\n")
    asked = ("scan", "both.csv", "--group", "patient", "-f", "sarif:found.sarif")

    def told() -> list[tuple[str, str]]:
        results = json.loads(Path("found.sarif").read_text())["runs"][0]["results"]
        return sorted((one["level"], one["message"]["text"]) for one in results if one["ruleId"] == "leak")

    curate(*asked, "--fail-on", "leak", status=1)
    assert len(told()) == 2
    for patient, (level, text) in zip(("p4", "p9"), told(), strict=True):
        assert level == "error"
        assert f"patient {patient} is in the training set too, with 2 rows" in text
    curate(*asked, "--rules=-leak")
    assert told() == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [("ward", "train.csv has no column 'ward' (--group)"), ("(x", "no regular expression"),
     ("(ward)", "no key holds it, the first is")],
)  # fmt: skip
def test_a_group_that_is_not_there_is_told(asked: str, said: str, here: Path) -> None:
    table("train.csv", range(10), 0)
    for command in ("scan", "doctor"):
        assert said in " ".join(curate(command, "train.csv", "--group", asked, status=2).output.split())


def test_whatever_is_linked_is_one_group() -> None:
    assert _linked([["a", "b", "a", "c", "d"], [1, 1, 2, 3, 4]]) == [0, 0, 0, 1, 2]
    sizes, group = together(torch.tensor([0, 1, 0, 2]), None)
    assert (sizes.tolist(), group.tolist()) == ([2, 1, 2, 1], [0, 1, 0, 2])
    groups = Groups("patient", [None, None, None, None], ["p"])
    assert torch.equal(together(torch.tensor([0, 1, 0, 2]), groups)[1], group)
    assert groups.shared() == {}


def test_keys_hold_the_group_of_pictures(here: Path) -> None:
    from PIL import Image

    for split, patients in (("train", range(6)), ("val", range(5, 8))):
        for number in patients:
            folder = here / "scans" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            for view in range(2):
                Image.new("L", (8, 8), 20 * number + view + (9 if split == "val" else 0)).save(
                    folder / f"patient{number}_{view}.png"
                )
    done = curate("scan", "scans", "--group", "(patient[0-9]+)", "-f", "json")
    leaks = [row for row in json.loads(done.stdout)["findings"] if row["rule"] == "leak"]
    assert {row["why"].split(";")[0] for row in leaks} == {"group patient5 is in the training set too, with 2 rows"}
