"""Reports of stored runs: one plain ``Report``, one file a format.

Knows the formats by name; leaves where a report is written to the commands. Formats are imported when one is asked
for: a verdict or a list of runs waits for none.
"""

from typing import TYPE_CHECKING, Any

from curate.reports.report import Report

if TYPE_CHECKING:
    from curate.reports.base import Renderer
    from curate.reports.formats import REPORTS
    from curate.reports.html import HtmlReport
    from curate.reports.json import JsonReport
    from curate.reports.terminal import RichReport, TextReport

__all__ = ["REPORTS", "HtmlReport", "JsonReport", "Renderer", "Report", "RichReport", "TextReport"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from curate.reports import formats

    return getattr(formats, name)
