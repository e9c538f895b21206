"""``curate serve``: Datasette on a curate database, with a page to review on.

Knows how the server is put together; leaves its pages to ``pages`` and ``plugin``, its texts to ``settings``, what it
refuses to ``safety``. Needs the extra ``review``.
"""

import os
from pathlib import Path
from typing import Any

from curate.reports.html import TEMPLATES as STYLES

TEMPLATES = Path(__file__).parent / "templates"


def server(
    path: Path,
    *,
    writing: bool = False,
    reviewer: str = "anonymous",
    dataset: str | None = None,
    hosts: frozenset[str] | None = None,
) -> Any:
    """A ``datasette.app.Datasette`` on the database; read-only unless ``writing``.

    ``hosts`` are the names it may be asked for under; None: any.
    """
    # Plugins that happen to be installed could write, or loosen the policy; who wants them says so.
    os.environ.setdefault("DATASETTE_LOAD_PLUGINS", "")
    from datasette.app import Datasette
    from datasette.plugins import pm

    from curate.review.web import pages, plugin
    from curate.review.web.settings import LIMITS, metadata

    if not pm.has_plugin("curate"):
        pm.register(plugin, "curate")
        # Every plugin's page for an error is made, whichever is shown; ours calls this one for other servers.
        pm.unregister(name="datasette.handle_exception")
    # A folder that cannot be written to has no room for the side files of a database that others write to.
    mutable = os.access(path.parent, os.W_OK)
    made = Datasette(
        [str(path)] if mutable else [],
        immutables=[] if mutable else [str(path)],
        metadata=metadata(path.stem, writing),
        settings=LIMITS,
        template_dir=str(TEMPLATES),
        static_mounts=[("-/curate", str(STYLES))],
    )
    made.curate = pages.Serving(path, writing=writing, reviewer=reviewer, dataset=dataset, hosts=hosts)
    return made
