"""Reports of stored runs: one plain ``Report``, one file a format, as `plugs.REPORTS` lists them.

Leaves where a report is written to the commands. A format is imported when it is asked for: a verdict or a list of
runs waits for none.
"""

from typing import TYPE_CHECKING

from curate.plugs import REPORTS
from curate.reports.report import Report

if TYPE_CHECKING:
    from curate.reports.base import Renderer

__all__ = ["Report", "renderer"]


def renderer(format: str) -> "type[Renderer]":
    """The class that writes this format."""
    found: type[Renderer] = REPORTS[format].load()
    return found
