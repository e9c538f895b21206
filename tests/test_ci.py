"""What is ready-made for builds: pre-commit hooks run by pre-commit, the action's steps as shell, in a repository."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import fill

yaml = pytest.importorskip("yaml", reason="the hooks and the action are YAML: pip install '.[test]'")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a table of 60 rows, one of which has the other class's label."""
    draw = np.random.default_rng(3)
    folder = tmp_path / "my repository"
    (folder / "data").mkdir(parents=True)
    with (folder / "data" / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["p", "q", "label"])
        for number in range(60):
            values = np.round(draw.normal(5 * (number % 2), 1, 2), 3)
            writer.writerow([*values, "ab"[number % 2 if number != 30 else 1]])
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "the data")
    return folder


def git(folder: Path, *arguments: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A PATH on which `curate` is this checkout's, and nothing of the caller's settings."""
    command = tmp_path / "bin" / "curate"
    command.parent.mkdir()
    code = "import sys; from curate.cli import main; main(prog_name='curate')"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CURATE_", "GITHUB_", "GIT_"))}
    for name in ("FORCE_COLOR", "NO_COLOR"):
        kept.pop(name, None)
    folders = os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), kept["PATH"]])
    return {**kept, "PATH": folders, "PYTHONPATH": str(ROOT), "PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}


# pre-commit


def hooks() -> dict[str, dict[str, Any]]:
    return {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))}


def test_the_hooks_name_commands_that_are_there() -> None:
    from curate.cli import COMMANDS

    for name, hook in hooks().items():
        assert hook["entry"].split()[:1] == ["curate"]
        assert hook["entry"].split()[1] in COMMANDS
        assert name == hook["entry"].replace(" ", "-")
        assert hook["language"] == "python"
        assert hook["pass_filenames"] is False


def test_pre_commit_runs_the_check(repository: Path, environ: dict[str, str]) -> None:
    if shutil.which("pre-commit", path=environ["PATH"]) is None:
        pytest.skip("pre-commit is not installed: pip install '.[test]'")
    # As in the shipped file, but with the curate that is installed here: pre-commit's own would need a network.
    hook = {**hooks()["curate-check"], "language": "system", "args": ["--fail-on", "error", "--no-verify"]}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]}))
    fill(repository / ".curate" / "curate.db")
    git(repository, "add", ".pre-commit-config.yaml")

    def run() -> subprocess.CompletedProcess[str]:
        command = ["pre-commit", "run", "--all-files", "--color", "never"]
        return subprocess.run(command, cwd=repository, env=environ, capture_output=True, text=True, timeout=120)

    failed = run()
    assert failed.returncode == 1
    assert re.search(r"curate check\.+Failed\n- hook id: curate-check\n- exit code: 1", failed.stdout), failed.stdout
    assert "pets/train/cat/00.png: error: mislabeled" in failed.stdout
    assert "failed: 1 mislabeled, 1 conflict in 13 rows" in failed.stdout
    subprocess.run(["curate", "baseline"], cwd=repository, env=environ, check=True, capture_output=True)
    assert run().returncode == 0


# The action


def action() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((ROOT / ".github/actions/scan/action.yml").read_text("utf-8"))
    return told


class Job:
    """The action's shell steps, run as a runner runs them; steps that use another action are left out."""

    def __init__(self, folder: Path, environ: dict[str, str], **given: str) -> None:
        self.folder, self.environ = folder, environ
        self.inputs = {name: part.get("default", "") for name, part in action()["inputs"].items()} | given
        self.outputs: dict[str, str] = {}
        self.summary = folder.parent / "summary.md"

    def value(self, text: str) -> str:
        def one(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("inputs."):
                return self.inputs[name.removeprefix("inputs.")]
            return self.outputs[name.removeprefix("steps.scan.outputs.")]

        return re.sub(r"\$\{\{ (.+?) \}\}", one, text)

    def step(self, name: str) -> subprocess.CompletedProcess[str]:
        (step,) = [step for step in action()["runs"]["steps"] if step["name"] == name]
        assert "${{" not in step["run"]  # a value put into a script by the runner is run as code
        output = self.folder.parent / "output.txt"
        output.write_text("")
        named = {key: self.value(text) for key, text in step["env"].items()}
        around = {**self.environ, **named, "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.summary)}
        script = self.folder.parent / "step.sh"
        script.write_text(step["run"])
        where = self.folder / self.value(step.get("working-directory", "."))
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(command, cwd=where, env=around, capture_output=True, text=True, timeout=120)
        self.outputs |= dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done


def test_the_action_scans_annotates_keeps_sarif_and_fails_last(repository: Path, environ: dict[str, str]) -> None:
    job = Job(
        repository, environ, data="rows.csv", options="--name 'my rows' --seed 3\n--strict", **{
            "working-directory": "data", "fail-on": "mislabeled", "sarif": "out dir/found.sarif",
        },
    )  # fmt: skip
    scanned = job.step("Scan")
    assert scanned.returncode == 0, scanned.stderr  # what was found is uploaded before the job fails
    log = scanned.stdout + scanned.stderr
    assert re.search(
        r"^curate: scanned rows\.csv in .+: reading .+, suspicion .+, influence .+, checks .+, storing ",
        log,
        re.MULTILINE,
    )
    assert not {"\x1b", "\r", "\u2501"} & set(log)  # no colours, and no progress bar
    assert job.outputs == {"status": "1", "sarif": "data/out dir/found.sarif"}
    assert "::error file=data/rows.csv,line=32,title=curate%3A mislabeled::" in scanned.stdout
    assert scanned.stdout.splitlines()[-1].startswith("failed: 1 mislabeled in 60 rows")
    assert (repository / job.outputs["sarif"]).read_text().startswith("{")
    assert "my rows" in (repository / job.outputs["sarif"]).read_text()
    assert "## curate: failed" in job.summary.read_text()
    assert (repository / "data" / ".curate" / "curate.db").exists()  # what the cache keeps
    assert job.step("Gate").returncode == 1


def test_an_open_quote_or_a_scan_that_never_ran_is_no_pass(repository: Path, environ: dict[str, str]) -> None:
    job = Job(repository, environ, data="data/rows.csv", options="--name 'my rows")
    assert job.step("Scan").returncode != 0
    assert "status" not in job.outputs
    job.outputs["status"] = ""
    assert job.step("Gate").returncode == 3
    job = Job(repository, environ, data="data/nothing.csv", options="$(touch injected)")
    assert job.step("Scan").returncode == 0
    assert job.outputs["status"] == "2"
    assert job.step("Gate").returncode == 2
    assert not (repository / "injected").exists()


def test_every_input_is_used_and_every_use_is_an_input() -> None:
    text = (ROOT / ".github/actions/scan/action.yml").read_text("utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(action()["inputs"])
    for step in action()["runs"]["steps"]:
        assert ("shell" in step) == ("run" in step)  # a composite action has no default shell
