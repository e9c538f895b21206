"""Reports of stored runs: one plain ``Report``, one file a format.

Knows the formats by name; leaves where a report is written to the commands. Adding a line to ``REPORTS`` adds a format.
"""

from curate.reports.base import Renderer
from curate.reports.csv import CsvReport
from curate.reports.github import GithubReport
from curate.reports.gitlab import GitlabReport
from curate.reports.html import HtmlReport
from curate.reports.json import JsonReport
from curate.reports.jsonl import JsonLinesReport
from curate.reports.junit import JunitReport
from curate.reports.markdown import MarkdownReport
from curate.reports.report import Report
from curate.reports.sarif import SarifReport
from curate.reports.terminal import RichReport, TextReport

REPORTS: dict[str, type[Renderer]] = {
    "rich": RichReport,
    "text": TextReport,
    "json": JsonReport,
    "html": HtmlReport,
    "jsonl": JsonLinesReport,
    "csv": CsvReport,
    "markdown": MarkdownReport,
    "github": GithubReport,
    "gitlab": GitlabReport,
    "junit": JunitReport,
    "sarif": SarifReport,
}

__all__ = ["REPORTS", "HtmlReport", "JsonReport", "Renderer", "Report", "RichReport", "TextReport"]
