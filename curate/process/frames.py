"""Which line of a person's own code an error came from, and its first line of words. Standard library only."""

import sys
import traceback
from pathlib import Path

_OWN_FOLDER = Path(__file__).parents[1]


def user_frame(error: BaseException, where: str = "") -> str:
    """``file.py:12``: the last line of the person's own code that an error passed through, else the last line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    library = [str(_OWN_FOLDER), "<frozen", str(Path(traceback.__file__).parent)]
    library += [
        str(Path(module.__file__).parent) for module in [sys.modules.get("torch")] if module and module.__file__
    ]
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith(tuple(library))
        and not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)
    ]
    if where.endswith(".py"):
        own = [frame for frame in frames if Path(frame.filename).name == Path(where).name] or own
    if not frames:
        return "an unknown line"
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says; messages have no room for more."""
    return (str(error).strip() or repr(error)).splitlines()[0]
