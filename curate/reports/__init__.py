"""Reports of stored runs: one plain ``Report``, one file a format.

Knows the formats by name; leaves where a report is written to the commands. Adding a line to ``REPORTS`` adds a format.
"""

from curate.reports.base import Renderer
from curate.reports.html import HtmlReport
from curate.reports.json import JsonReport
from curate.reports.report import Report
from curate.reports.terminal import RichReport, TextReport

REPORTS: dict[str, type[Renderer]] = {
    "rich": RichReport,
    "text": TextReport,
    "json": JsonReport,
    "html": HtmlReport,
}

__all__ = ["REPORTS", "HtmlReport", "JsonReport", "Renderer", "Report", "RichReport", "TextReport"]
