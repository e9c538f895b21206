"""The formats of a report by name. Adding a line to ``REPORTS`` adds a format.

Imported where a report is written: these are most of what ``curate`` imports without torch.
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
