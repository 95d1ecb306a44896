"""Settings of the site for Sphinx; `make docs` builds it (see `tools/pages`)."""

from ornstein._version import __version__

project = "Ornstein"
author = "The Ornstein developers"
copyright = "The Ornstein developers"
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["studies", "_static"]
html_theme = "furo"
html_title = f"Ornstein {__version__}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_heading_anchors = 4  # the anchors that a forge makes for headings
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
toc_object_entries = False
nitpicky = True  # a name that leads nowhere is a warning
python_use_unqualified_type_names = True
