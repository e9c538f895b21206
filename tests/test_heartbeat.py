"""What several processes do if one of them fails, hangs or is killed: the signs of life that they give one another."""

import json
import socket
import time
from pathlib import Path

import pytest

from curate.process import heartbeat, stopping
from curate.process.heartbeat import Heartbeat, LostRank
from curate.process.ranks import Rank, launched, this_rank
from curate.stages import joining


class Board:
    """What torch's store does, in this process."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.told[key] = value

    def get(self, key: str) -> bytes:
        return self.told[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.told for key in keys)

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        if self.told.get(key, "") == expected:
            self.told[key] = desired
        return self.told[key].encode()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which this process would have been ended."""
    found: list[int] = []
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    monkeypatch.setattr(heartbeat, "GRACE", 0.05)
    monkeypatch.setattr(heartbeat, "_mine", None)
    monkeypatch.setattr(stopping, "end_now", lambda status: found.append(status))
    return found


def told_by(board: Board, said: str, wait: bool, capfd: pytest.CaptureFixture[str], patience: float = 0.2) -> str:
    """What the first of two processes says if the second has said nothing but this for longer than it may."""
    board.set("beat/1", said)
    with Heartbeat(board, Rank(0, 2), patience) as heart:
        if wait:
            with heart.waits():
                time.sleep(3 * patience)
        else:
            time.sleep(3 * patience)
    return capfd.readouterr().err


def test_who_gives_no_sign_of_life_is_named(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    said = told_by(Board(), "7 waits 0.0 there", True, capfd)
    assert "Rank 1 of 2 on there has given no sign of life for 0.2 s (--rank-timeout)" in said
    assert ended
    assert set(ended) == {2}


class Lively(Board):
    """A second process whose heart beats on."""

    def get(self, key: str) -> bytes:
        found = super().get(key).decode().split(" ")
        return " ".join([*found[:2], str(time.time()), *found[3:]]).encode()


def test_who_makes_no_progress_is_named(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    said = told_by(Lively(), "7 works 0.0 there", True, capfd)
    assert "Rank 1 of 2 on there has made no progress for 0.2 s" in said


def test_two_that_wait_for_one_another_are_a_bug(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    assert "wait for one another: this is a bug" in told_by(Lively(), "7 waits 0.0 there", True, capfd)


def test_who_works_waits_for_nobody(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    assert told_by(Board(), "7 works 0.0 there", False, capfd) == ""
    assert not ended


def test_all_end_once_one_has_had_the_word(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    board = Lively()
    board.set(heartbeat.WORD, "1")
    assert told_by(board, "7 works 0.0 there", False, capfd) == ""
    assert ended
    assert set(ended) == {2}


def test_one_that_does_not_come_is_told(ended: list[int]) -> None:
    with pytest.raises(LostRank, match="Of 3 processes 1, 2 did not come"), Heartbeat(Board(), Rank(0, 3), 0.1):
        pass


def test_a_connection_that_breaks_off_names_who_has_ended(ended: list[int]) -> None:
    board = Board()
    board.set("beat/1", "7 works 0.0 there")
    with (
        Heartbeat(board, Rank(0, 2), 60) as heart,
        pytest.raises(LostRank, match="Rank 1 of 2 on there has ended without a word"),
        heart.waits(),
    ):
        raise RuntimeError("Connection closed by peer")


def test_the_first_says_an_error_of_all_and_another_one_of_its_own(ended: list[int]) -> None:
    board = Board()
    first, second = (Heartbeat(board, Rank(number, 2), 60) for number in (0, 1))
    assert first.takes_the_word()
    assert not second.takes_the_word()
    board.told.clear()
    assert second.takes_the_word()
    assert not first.takes_the_word()


def test_before_they_meet_an_error_is_said_by_the_first_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(time, "sleep", waited.append)
    for number in range(3):
        monkeypatch.setenv("RANK", str(number))
        assert heartbeat.speaks()
    assert waited[0] == 0 < waited[1] < waited[2]

    def ended(_: float) -> None:
        raise KeyboardInterrupt  # by the launcher: the first one had it too

    monkeypatch.setattr(time, "sleep", ended)
    assert not heartbeat.speaks()


def test_who_is_started_anew_does_not_look_for_those_that_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
    stores = []
    for attempt in ("0", "1"):
        for name, value in {**told, "TORCHELASTIC_RESTART_COUNT": attempt}.items():
            monkeypatch.setenv(name, value)
        stores.append(joining._stores(Rank()))  # the launcher's is kept alive
        shared, board = stores[-1]
        assert not shared.check(["address"])
        assert not board.check(["address"])
        shared.set("address", "mine")
        board.set("address", "mine")


def test_the_launcher_finds_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    heartbeat.tell_launcher("There is no file or folder data.")
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "There is no file or folder data."


def test_a_rank_is_read_off_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert (this_rank(), launched()) == (Rank(0, 1, 0), False)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert (this_rank(), launched()) == (Rank(5, 8, 1), True)
    monkeypatch.setenv("RANK", "eight")
    assert this_rank() == Rank()
