"""The site: ``sphinx-build -W docs FOLDER``, with the extra ``docs``. No page needs a network or a server."""

import re

from curate import __version__

project = "curate"
copyright = "the authors of curate, Apache License 2.0"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
autodoc_preserve_defaults = True
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md"]  # index.md includes it: the page for those who read the folder itself
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"curate {release}"
html_show_sphinx = False
html_copy_source = False
html_extra_path = ["reference/report.schema.json"]


def _as_rst(app, what, name, thing, options, lines) -> None:
    """Docstrings as the site's markup: |v| is a norm, `x` is code, and what stands indented is an example."""
    told: list[str] = []
    for line in lines:
        line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line.replace("|", "\\|"))
        if (
            line.startswith("    ")
            and told
            and not told[-1].strip()
            and not any(above[:1] == " " for above in told[-2:-1])
        ):
            told += [".. code-block:: text", ""]
        told.append(line)
    lines[:] = told


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _as_rst)
