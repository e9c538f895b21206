"""The shape of a report format: one class a format, found by name in ``curate.plugs.REPORTS``."""

from abc import ABC, abstractmethod
from typing import ClassVar

from curate.reports.report import Report


class Renderer(ABC):
    """One report format."""

    gallery: ClassVar[bool] = False  # True: needs ``report.gallery``
    listed: ClassVar[bool] = True  # False: shows the first `SHOWN` of ``report.findings`` at the most
    coloured: ClassVar[bool] = False  # True: may be written to a terminal with ``write(report, console)``

    @abstractmethod
    def render(self, report: Report) -> str:
        """The whole text, its last line ended."""
        ...
