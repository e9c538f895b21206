"""A unified diff of a text table, made from the changed records alone: `git apply` and `patch` take it, and back.

Knows hunks; leaves which records change to ``tables``.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence

CONTEXT = 3
Splice = tuple[int, int, str]
"""(start, end, new text): what stands between two places of a text is replaced."""


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """The text with its splices, which stand in order and apart."""
    parts, copied = [], 0
    for start, end, new in splices:
        parts += [text[copied:start], new]
        copied = end
    return "".join([*parts, text[copied:]])


def unified(name: str, text: str, splices: Sequence[Splice]) -> str:
    """The diff from ``text`` to its spliced form; empty where nothing changes."""
    lines = _lines(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    hunks = _hunks(_changes(text, splices, starts), len(lines))
    out = [f"--- {_quoted(f'a/{name}')}\n", f"+++ {_quoted(f'b/{name}')}\n"] if hunks else []
    grown = 0
    for first, last, changes in hunks:
        body, at = [], first
        for start, end, new in changes:
            body += [" " + line for line in lines[at:start]]
            body += ["-" + line for line in lines[start:end]]
            body += ["+" + line for line in new]
            at = end
        body += [" " + line for line in lines[at:last]]
        old, growth = last - first, sum(len(new) - (end - start) for start, end, new in changes)
        out.append(f"@@ -{_range(first, old)} +{_range(first + grown, old + growth)} @@\n")
        out += [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body]
        grown += growth
    return "".join(out)


def _quoted(name: str) -> str:
    """A file's name as git writes it: odd ones in C's quotes, a tab after one with spaces."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return f"{name}\t" if " " in name else name
    signs = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in os.fsencode(name))
    return f'"{"".join(signs)}"'


def _lines(text: str) -> list[str]:
    """Lines as diff counts them: only \\n ends one."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _changes(text: str, splices: Sequence[Splice], starts: list[int]) -> list[tuple[int, int, list[str]]]:
    """(first line, line after the last, new lines) of every run of lines that splices touch, apart from one another."""
    groups: list[tuple[int, int, list[Splice]]] = []
    lines = len(starts) - 1
    for splice in splices:
        # The line that follows is taken in: a splice may swallow the end of the one before.
        first = min(bisect_right(starts, splice[0]) - 1, max(0, lines - 1))
        last = min(bisect_right(starts, splice[1]), lines)
        if groups and first <= groups[-1][1]:
            before = groups.pop()
            groups.append((before[0], max(last, before[1]), [*before[2], splice]))
        else:
            groups.append((first, last, [splice]))
    found = []
    for first, last, parts in groups:
        base = starts[first]
        old = text[base : starts[last]]
        new = _lines(spliced(old, [(start - base, end - base, piece) for start, end, piece in parts]))
        found += _trimmed(first, _lines(old), new)
    return found


def _trimmed(first: int, old: list[str], new: list[str]) -> list[tuple[int, int, list[str]]]:
    """One change without the lines that both sides begin and end with; none where they are the same."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    if head == len(old) == len(new):
        return []
    return [(first + head, first + len(old) - tail, new[head : len(new) - tail])]


def _hunks(
    changes: list[tuple[int, int, list[str]]], lines: int
) -> list[tuple[int, int, list[tuple[int, int, list[str]]]]]:
    """Changes with the lines around them, joined where these meet."""
    hunks: list[tuple[int, int, list[tuple[int, int, list[str]]]]] = []
    for change in changes:
        first, last = max(0, change[0] - CONTEXT), min(lines, change[1] + CONTEXT)
        if hunks and first <= hunks[-1][1]:
            before = hunks.pop()
            hunks.append((before[0], last, [*before[2], change]))
        else:
            hunks.append((first, last, [change]))
    return hunks


def _range(first: int, count: int) -> str:
    return f"{first + 1 if count else first},{count}"
