"""Models of a library by name: ``torchvision:NAME``, ``timm:NAME``, ``hf:ID-OR-FOLDER``.

One file a family; each builds the architecture, fills it (with ``--weights``, else with the library's own weights
where they lie on this machine: nothing is ever downloaded) and brings the preprocessing that belongs to it.
"""

from collections.abc import Callable

from curate.models.families.common import Built, ModelSpec
from curate.models.families.hf import build_hf
from curate.models.families.timm import build_timm
from curate.models.families.torchvision import build_torchvision

__all__ = ["FAMILIES", "Built", "ModelSpec"]

FAMILIES: dict[str, Callable[[ModelSpec], Built]] = {
    "torchvision": build_torchvision,
    "timm": build_timm,
    "hf": build_hf,
}
