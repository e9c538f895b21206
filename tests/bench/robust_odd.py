"""Words and changes of bytes that nobody should send, and the command line that they are sent to: for ``robust.py``."""

import os
import random
import re
import subprocess
import sys

from click.testing import CliRunner

from curate.cli import main

LONGEST = 600
PATIENCE = 60.0
"""Seconds that one case may take; set by ``--patience`` where other work shares the processors."""
REAL = False
"""Whether ``command`` starts processes, where it calls the command line in this one otherwise."""

ODD = [
    "", " ", "\0", "\x1b[31mred\x1b[0m", "\x07", "\r", "\n", "\r\n", "\t", '"', "'", ",", ";", "|", "=1+1", "@x", "-",
    "../../etc/passwd", "/etc/passwd", "..", ".", "~", "CON", "a/b", "a\\b", "C:\\x", "file:///etc/passwd", "%00", "%s",
    "{x}", "{{7*7}}", "${x}", "<script>alert(1)</script>", "]]>", "<!--", "&amp;", "javascript:alert(1)", "[bold]x[/]",
    "\u202eabc", "\u2028", "\u200b", "\ufeff", "\ud83d", "\udce4", "é", "e\u0301", "𝔘", "😀", "١٢٣", "²", "NaN", "nan",
    "inf", "-inf", "1e400", "1e-400", "-0", "0x10", "1_000", "9" * 400, "9" * 5000, "1.0", ".0", "1.5e1", "True",
    "None", "null", "x" * 5000, "a b c d e", "'; DROP TABLE reviews; --", "::", ":", "-1", "--help", "eval:x",
    "2024-01-31", "9999-99-99", "31.12.1999", "12:34:56",
]  # fmt: skip


class Fault(AssertionError):
    """Something that curate must not do."""


def odd(draw: random.Random) -> str:
    text = draw.choice(ODD)
    return text if draw.random() < 0.7 else text + draw.choice(ODD)


def mutated(draw: random.Random, content: bytes) -> bytes:
    """Cut short, bytes changed, put in, taken out or doubled."""
    if draw.random() < 0.15:
        return content[: draw.randrange(len(content) + 1)]
    out = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        at = draw.randrange(len(out) + 1)
        how = draw.random()
        if how < 0.5 and out:
            out[at % len(out)] = draw.choice([0, 255, 10, 13, 34, 92, draw.randrange(256)])
        elif how < 0.7:
            out[at:at] = draw.choice([b"\0", b'"', b"\xff\xfe", b"\r", b"\\ud800", b"9" * 50, draw.randbytes(4)])
        elif how < 0.85:
            del out[at : at + draw.randrange(1, 9)]
        else:
            out[at:at] = out[at : at + 40]
    return bytes(out)


def command(*arguments: str, passes: tuple[int, ...] = (0, 1, 2, 4, 5), **environment: str) -> str:
    """Run the command line in this process; its stdout. Raises ``Fault`` for any other status, and a long message."""
    status, out, err, raised = _in_process(arguments, environment) if REAL else _called(arguments, environment)
    if status not in passes or (raised and not isinstance(raised, SystemExit)):
        raise Fault(f"status {status}: {arguments}: {err[-300:]} {raised!r}")
    said = [line for line in err.splitlines() if not re.match(r"curate: .*\d in \d+\.\d s$", line)]
    if status in (2, 4, 5) and len("\n".join(said[-2:])) > LONGEST:
        raise Fault(f"a message of {len(err)} signs: {arguments}: {err[:200]}")
    if "Traceback" in err:
        raise Fault(f"a traceback: {arguments}: {err[-300:]}")
    return out


Ended = tuple[int, str, str, BaseException | None]
"""Status, stdout, stderr, and what was raised."""


def _called(arguments: tuple[str, ...], environment: dict[str, str]) -> Ended:
    done = CliRunner().invoke(main, list(arguments), env=environment)
    return done.exit_code, done.stdout, done.stderr, done.exception


def _in_process(arguments: tuple[str, ...], environment: dict[str, str]) -> Ended:
    given = [argument.encode("utf-8", "surrogatepass") for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "curate", *given], capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}, timeout=PATIENCE - 10,
    )  # fmt: skip
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"), None
