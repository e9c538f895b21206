"""Progress: what a log and a person read while a scan runs, and what `--dry-run` says before it does."""

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import curate
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from curate.pipeline.story import STEPS
from curate.process.numbers import about
from curate.process.progress import Progress
from curate.stages.costs import USUAL_SPEED, Size, Speed, cost_of

SIZE = Size(
    rows=1_000, evaluation=0, classes=5, features=64, depths=3, parameters=10_000, passes=8.0, beside=1e9,
    by_layers=True, copies=False, bytes_a_row=4_096, temporaries=2**30,
)  # fmt: skip
SPEED = Speed(USUAL_SPEED, 1e-3)


def test_a_log_has_one_line_of_quick_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().steps(("reading", "judging"), "scanned rows") as begin:
        begin("reading")
        begin("judging")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "curate: scanned rows in 0.0 s: reading 0.0 s, judging 0.0 s\n"


def test_a_log_has_a_line_now_and_then_while_a_step_runs(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(first=0.02, every=0.05)
    with progress.steps(("reading", "judging"), "scanned rows") as begin:
        begin("reading")
        progress.expect(lambda: {"judging": 90.0, "elsewhere": 1.0})
        with progress.stage("Reading training rows", 200) as advance:
            advance(50)
            time.sleep(0.12)
    lines = capsys.readouterr().err.splitlines()
    first, second = lines[:2]
    assert first.startswith("curate: step 1 of 2, reading, Reading training rows, 25 %, about 1 min 3")
    assert second.startswith("curate: step 1 of 2, reading, Reading training rows, 25 %, about 1 min 3")
    assert lines[-2].startswith("curate: Reading training rows: 200 in 0.")
    assert lines[-1].startswith("curate: scanned rows in 0.")


def test_what_is_left_is_of_the_step_as_long_as_nobody_knows_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(first=0.02)
    with progress.steps(("reading", "judging"), "scanned rows") as begin:
        begin("reading")
        with progress.stage("Reading training rows", 4) as advance:
            advance(1)
            time.sleep(0.05)
    assert "25 %, under 1 s left of this step\n" in capsys.readouterr().err


def test_what_steps_took_longer_than_expected_the_next_ones_will_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine with other work, or a forecast that is off: within 25 % all the same."""
    progress = Progress(first=0.08)
    with progress.steps(("fitting", "judging", "storing"), "scanned rows") as begin:
        progress.expect(lambda: {"fitting": 0.02, "judging": 40.0, "storing": 20.0})
        begin("fitting")
        time.sleep(0.06)
        begin("judging")
        time.sleep(0.06)
    seconds = re.search(r"judging, about ([0-9]) min(?: ([0-9]+) s)? left", capsys.readouterr().err)
    assert seconds is not None
    assert 160 < 60 * int(seconds[1]) + int(seconds[2] or 0) <= 240


def test_beside_other_work_a_processor_second_takes_longer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forecasts are of processor seconds."""
    clock, start = time.monotonic, time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: start + 300 * (clock() - start))
    monkeypatch.setattr(time, "process_time", lambda: 100 * (clock() - start))
    progress = Progress(first=0.1)
    with progress.steps(("judging", "storing"), "scanned rows") as begin:
        progress.expect(lambda: {"judging": 40.0, "storing": 30.0})
        begin("judging")
        time.sleep(0.13)
    seconds = re.search(r"judging, about ([0-9]) min(?: ([0-9]+) s)? left", capsys.readouterr().err)
    assert seconds is not None
    assert 150 <= 60 * int(seconds[1]) + int(seconds[2] or 0) <= 190  # 210, less the 30 that are over


def test_a_step_that_says_nothing_is_told_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(first=0.02).steps(("reading",), "scanned rows") as begin:
        begin("reading")
        time.sleep(0.05)
    assert capsys.readouterr().err.startswith("curate: step 1 of 1, reading\n")


def test_a_terminal_has_one_bar_of_the_step_and_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    wide = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("curate.process.progress.Console", lambda file: wide)
    progress = Progress()
    with progress.steps(("reading", "judging"), "scanned rows") as begin:
        begin("reading")
        begin("judging")
        with progress.stage("Solving", 10) as advance:
            advance(5)
            time.sleep(0.3)
    assert "step 2 of 2, judging: Solving" in screen.getvalue()
    assert "50 %" in screen.getvalue()
    assert "scanned rows" not in screen.getvalue()  # the report says what was scanned


def test_nothing_is_told_or_asked_of_one_who_wants_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress.silent()
    with progress.steps(("reading",), "scanned rows") as begin:
        begin("reading")
        progress.expect(lambda: pytest.fail("nobody is told"))
    assert capsys.readouterr() == ("", "")


def test_an_error_ends_the_bar_and_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        with Progress().steps(("reading",), "scanned rows") as begin:
            begin("reading")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "under 1 s"), (1.2, "about 1 s"), (59.7, "about 1 min 0 s"), (3_700, "about 1 h 1 min")]
)
def test_a_guess_is_told_as_one(seconds: float, told: str) -> None:
    assert about(seconds) == told


class TestCosts:
    @given(
        st.sampled_from(["rows", "evaluation", "classes", "features", "parameters", "bytes_a_row"]),
        st.integers(2, 50),
    )
    def test_more_of_anything_is_never_cheaper(self, what: str, times: int) -> None:
        more = replace(SIZE, **{what: max(1, getattr(SIZE, what)) * times})
        before, after = cost_of(SIZE, SPEED, 1e-3), cost_of(more, SPEED, 1e-3)
        assert after.memory >= before.memory
        assert all(after.seconds[step] >= before.seconds[step] for step in before.seconds)

    def test_the_steps_are_those_of_a_scan(self) -> None:
        assert tuple(cost_of(SIZE, SPEED, 1e-3).seconds) == STEPS

    def test_what_is_taken_at_the_head_needs_no_pass_through_the_network(self) -> None:
        at_head = replace(SIZE, parameters=0, temporaries=0)
        cheap, dear = cost_of(at_head, SPEED, 1e-3), cost_of(SIZE, SPEED, 1e-3)
        assert dear.seconds["influence"] > 5 * cheap.seconds["influence"]
        assert cheap.seconds["checks"] < 0.1 < dear.seconds["checks"]
        assert dear.memory > cheap.memory + 2**29


class TestDryRun:
    def test_a_table(self, here: Path) -> None:
        rows = [f"{k % 7},{k % 3},{'ab'[k % 2]}" for k in range(40)]
        Path("rows.csv").write_text("\n".join(["x,z,label", *rows]))
        told = curate("scan", "rows.csv", "--dry-run").stdout
        assert "training rows    40, 2 classes, from rows.csv" in told
        assert "model            none: a probe on the inputs answers" in told
        for step in STEPS:
            assert f"\n  {step} " in told
        assert "of one core and about" in told
        assert told.endswith("nothing was scored or stored\n")
        assert not Path(".curate").exists()

    def test_pictures_without_a_model(self, here: Path) -> None:
        for name in ("cat", "dog"):
            Path("photos", name).mkdir(parents=True)
            for k in range(3):
                Image.fromarray(np.full((8, 8, 3), 40 * k, "uint8")).save(f"photos/{name}/{k}.png")
        told = curate("scan", "photos", "--dry-run").stdout
        assert "none: labels are not judged, contents are looked at" in told
        assert "suspicion" not in told
        assert not Path(".curate").exists()

    def test_what_a_scan_would_refuse_is_refused(self, here: Path) -> None:
        done = curate("scan", "nowhere.csv", "--dry-run", status=2)
        assert "nowhere.csv" in done.output
        Path("rows.csv").write_text("x,label\n1,a\n2,b\n3,a\n")
        done = curate("scan", "rows.csv", "--dry-run", status=5)
        assert "too few to tell a wrong label from a rare one" in done.output
