"""One table of options: settings, command line and the reference page say the same."""

import dataclasses
import runpy
from pathlib import Path

import click
import pytest

from curate.cli.doctor import doctor
from curate.cli.scan import scan
from curate.settings.merge import ScanSettings
from curate.settings.options import OPTIONS, SECTIONS, option_named

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "reference" / "commands.md").read_text("utf-8")


def test_the_page_is_up_to_date() -> None:
    make = runpy.run_path(str(DOCS / "make_commands_page.py"))
    assert make["page"](PAGE) == PAGE, "run python docs/make_commands_page.py"
    for option in OPTIONS.values():
        assert make["row"](option) in PAGE


def test_every_setting_is_an_option_of_a_section_and_of_the_command_line() -> None:
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(ScanSettings)}
    assert {option.section for option in OPTIONS.values()} == set(SECTIONS)
    # What would be done is a question about a scan, and no setting of one.
    assert {parameter.name for parameter in scan.params} == {*OPTIONS, "config", "dry_run", "plan", "shard"}
    helps = {p.name: p.help for p in scan.params if isinstance(p, click.Option)}
    for key in set(OPTIONS) - {"train", "db", "format"}:
        assert helps[key] == (OPTIONS[key].help if OPTIONS[key].switch else OPTIONS[key].sentence)


@pytest.mark.parametrize("option", [option for option in OPTIONS.values() if option.switch], ids=lambda o: o.key)
def test_a_switch_is_off_until_it_is_given(option: object) -> None:
    assert isinstance(option, type(OPTIONS["strict"]))
    context = scan.make_context("scan", ["x"])
    assert context.params[option.key] is None  # a file, or the environment, may say it
    context = scan.make_context("scan", ["x", option.spelling])
    assert context.params[option.key] is (option.switch == "on")
    assert option_named(f"no-{option.flag}") == (option, True)


def test_doctor_shows_the_same_sections_without_a_gate() -> None:
    shown = doctor.get_help(click.Context(doctor))
    assert [heading for heading in (*SECTIONS, "Settings and output") if f"\n{heading}:\n" in shown] == [
        "Data", "Model", "Numbers", "Settings and output"
    ]  # fmt: skip
