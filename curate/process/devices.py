"""Devices that are certainly not here, told without torch, which takes seconds to import.

Knows what every build of torch needs of the machine; leaves to torch whether a device that may be here works.
"""

import ctypes
import sys
from importlib.metadata import PackageNotFoundError, version

from curate.errors import UsageError


def refuse_device(asked: str) -> None:
    """Raise ``UsageError`` if torch cannot have the device: ``mps`` off a Mac, ``cuda`` without a driver of it."""
    kind = asked.split(":")[0]
    if (kind == "mps" and sys.platform != "darwin") or (kind == "cuda" and not _may_have_cuda()):
        raise no_device(asked, ("cpu",))


def no_device(asked: str, there: tuple[str, ...]) -> UsageError:
    """The refusal of a device, with those that are there (``cpu`` at the least)."""
    return UsageError(f"--device {asked}: there is no such device here", f"There is: {', '.join(there)}")


def _may_have_cuda() -> bool:
    """False only if it is certain: a torch for the CPU alone, or no NVIDIA driver for a torch that needs one."""
    try:
        build = version("torch").partition("+")[2]
    except PackageNotFoundError:
        return True  # the import of torch tells what is wrong
    if sys.platform == "darwin" or build == "cpu":
        return False
    if build.startswith("rocm"):  # AMD's cards go by the name cuda
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
