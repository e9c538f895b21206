"""The site: ``sphinx-build -W docs FOLDER``, with the extra ``docs``. No page needs a network or a server."""

from curate import __version__

project = "curate"
copyright = "the authors of curate, Apache License 2.0"
release = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md"]  # index.md includes it: the page for those who read the folder itself
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"curate {release}"
html_show_sphinx = False
html_copy_source = False
html_extra_path = ["reference/report.schema.json"]
