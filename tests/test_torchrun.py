"""`torchrun -m curate scan`: the whole command in two processes, as people start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import curate

from curate.store import Store


def torchrun(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "curate", *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)


def test_the_first_alone_reports_and_all_end_with_0_whatever_the_gate_says(here: Path) -> None:
    draw = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (4 * y[:, None] + draw.normal(size=(60, 3))).astype(np.float32)
    y[::12] = 1 - y[::12]
    np.savez("rows.npz", x=x, y=y)
    done = torchrun("scan", "rows.npz", "--fail-on", "mislabeled", "-f", "text")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run 1") == done.stdout.count("failed: ") == 1
    assert done.stderr.count("curate: scanned") == 1
    with Store.open(".curate/curate.db") as store:
        assert [run["status"] for run in store.query("SELECT status FROM runs")] == ["finished"]
        key = store.query("SELECT key FROM examples LIMIT 1")[0]["key"]
    assert "failed: " in curate("check", "--fail-on", "mislabeled", status=1).output
    assert json.loads(curate("report", "-f", "json").stdout)["run"]["counts"]["processes"] == 2
    assert "cpu, 2 processes, seed 0" in curate("report", "-f", "text", "-v").stdout
    assert "run 1, by 2 processes" in curate("show", key).stdout


def test_a_command_that_runs_in_one_process_says_so(here: Path) -> None:
    done = curate("runs", status=2, RANK="0", WORLD_SIZE="2")
    assert "`curate runs` runs in one process, and 2 were started." in done.output
    assert "scan, merge, bench, verify, retrain-check run in several" in done.output


def test_accelerate_launch_starts_several_processes(here: Path) -> None:
    pytest.importorskip("accelerate")
    draw = np.random.default_rng(0)
    np.savez("rows.npz", x=draw.normal(size=(40, 3)).astype(np.float32), y=np.arange(40) % 2)
    # --multi_gpu is what makes it start several at all, on processors too.
    asked = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *asked, "--dynamo_backend", "no", "-m", "curate"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    scan = [*command, "scan", "rows.npz", "--device", "cpu", "-f", "text"]
    done = subprocess.run(scan, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run 1") == done.stderr.count("curate: scanned") == 1
    assert json.loads(curate("report", "-f", "json").stdout)["run"]["counts"]["processes"] == 2
