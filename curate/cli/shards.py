"""``--plan FILE`` and ``--shard i/N``: what a plan fixes, and what may differ where a part of it is computed."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from curate.errors import UsageError
from curate.settings.merge import ScanSettings, find_settings
from curate.settings.options import OPTIONS

if TYPE_CHECKING:
    from curate.stages.plan import ScanPlan

FREE = ("db", "device", "batch_size", "memory", "rank_timeout", "cache")
"""Settings of the sections that a plan fixes, which may differ from place to place."""


def planned(file: str, given: Mapping[str, Any]) -> "tuple[ScanPlan, ScanSettings]":
    """The plan, and its settings with what may be given beside it. Raises `UsageError` for anything else given."""
    from curate.stages.plan import ScanPlan

    plan = ScanPlan.read(file)
    free = {key for key, option in OPTIONS.items() if option.section in ("Gate", "Output") or key in FREE}
    for key, value in given.items():
        if value is not None and value != () and key not in free:
            raise UsageError(f"{OPTIONS[key].spelling} is fixed by the plan.", "Leave it out, or plan anew.")
    values = find_settings(given).values  # what stands beside the data was asked when it was planned
    return plan, replace(plan.settings, **{key: value for key, value in values.items() if key in free})


def read_part(text: str) -> tuple[int, int]:
    """``3/8`` as (2, 8): the number of the part from 0, and of how many."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text} is no part of a whole.", "Like 1/8, 2/8 and so on to 8/8.")
    return number - 1, count
