"""Help that finds its way: groups, own options first, near names for slips, completion by the shell."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from command import curate
from stored import fill

from curate.cli import COMMANDS, GROUPS, main
from curate.plugs import SOURCES


def test_commands_stand_in_groups_and_all_of_them() -> None:
    text = curate("--help").output
    places = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    for name, (_, sentence) in COMMANDS.items():
        assert f"  {name}" in text
        assert " ".join(sentence.split()) in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("command", "option"),
    [("verify", "--what-if"), ("bench", "--noise"), ("perturb", "--png"), ("doctor", "--config")],
)
def test_options_of_a_command_stand_before_those_of_all(command: str, option: str) -> None:
    text = curate(command, "--help").output
    if command == "doctor":  # it has none of its own
        assert "Of this command" not in text
        return
    assert text.index("Of this command:") < text.index(f"  {option}") < text.index("\nData:") < text.index("--help")


def test_the_help_of_a_scan_names_every_kind_of_data() -> None:
    text = curate("scan", "--help").output
    words = " ".join(text.split())
    for plug in SOURCES.values():
        assert f"{plug.spec} {plug.help}" in words
    for ending in (".csv", ".parquet", ".jsonl", ".json"):
        assert ending in text


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["scna"], "There is no command 'scna'. Did you mean scan?"),
        (["report", "--tpo", "3"], "Did you mean '--top'?"),
        (["scan", "sklearn:iris", "--lable", "x"], "'--label'"),
        (["zzz"], "There is no command 'zzz'. There are init, doctor, scan,"),
    ],
)
def test_a_slip_is_told_with_the_near_name(words: list[str], near: str) -> None:
    assert near in curate(*words, status=2).output


@pytest.mark.parametrize(
    ("name", "near"), [("resnet18", "resnet18"), ("ResNet18", "resnet18"), ("resnet-18", "resnet18")]
)
def test_a_model_without_its_family_is_told_with_it(here: Path, name: str, near: str) -> None:
    from PIL import Image

    for label in ("a", "b"):
        (here / "p" / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (4, 4), (number, 0, 9 * (label == "b"))).save(here / "p" / label / f"{number}.png")
    told = curate("scan", "p", "--model", name, status=2).output
    assert f"Did you mean torchvision:{near}?" in told
    assert "Did you mean" not in curate("scan", "p", "--model", "my_own_network", status=2).output


def test_two_rows_are_too_few(here: Path) -> None:
    (here / "tiny.csv").write_text("a,b,label\n1,2,x\n2,3,y\n")
    told = curate("scan", "tiny.csv", status=5).output
    assert "tiny.csv has 2 readable rows: too few to tell a wrong label from a rare one" in told


def test_a_file_or_device_that_is_not_there_is_told_before_torch_is_imported(here: Path) -> None:
    (here / "rows.csv").write_text("a,label\n1,x\n2,y\n")
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom curate.cli import main\nsys.platform = 'linux'\n"
        "for words in (['nowhere.csv'], ['rows.csv', '--eval', 'rowz.csv'], ['rows.csv', '--device', 'mps']):\n"
        "    done = CliRunner().invoke(main, ['scan', *words])\n"
        "    print(done.exit_code, 'torch' in sys.modules, done.output)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "2 False curate: error: There is no file or folder nowhere.csv." in told
    assert "2 False curate: error: There is no file or folder rowz.csv." in told
    assert "rows.csv" in told.partition("rowz.csv")[2]  # what it may have meant
    assert "2 False curate: error: --device mps: there is no such device here." in told


# Completion


def completed(words: list[str], incomplete: str) -> list[str]:
    found = BashComplete(main, {}, "curate", "_CURATE_COMPLETE").get_completions(words, incomplete)
    return [item.value for item in found]


def test_the_shell_completes_commands_options_keys_and_data_sets(here: Path) -> None:
    assert completed([], "re") == ["report", "review", "retrain-check"]
    assert completed(["report"], "--re") == ["--receipts"]
    assert completed(["show"], "cat/") == []  # no database, no words
    fill(here / "curate.db", name="pets")
    assert completed(["--db", "curate.db", "show"], "cat/") == ["cat/00.png", "cat/01.png"]
    assert completed(["mark", "--db", "curate.db"], "cat/00") == ["cat/00.png"]
    assert completed(["report", "--db", "curate.db", "--dataset"], "p") == ["pets"]
    (here / "broken.db").write_bytes(b"no database")
    assert completed(["--db", "broken.db", "show"], "cat/") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_the_page_is_what_click_makes(shell: str) -> None:
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    assert "_CURATE_COMPLETE" in made(main, {}, "curate", "_CURATE_COMPLETE").source_vars()["complete_var"]
    page = (Path(__file__).parents[1] / "docs" / "reference" / "commands.md").read_text()
    assert f"_CURATE_COMPLETE={shell}_source curate" in page


def test_every_command_has_a_help() -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.help
