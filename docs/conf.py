"""How Sphinx makes the site out of these pages, the docstrings and the help of the commands.

The pages are Markdown, so that they are read as well where they lie. `make docs` builds them.
"""

from importlib import metadata

project = "hcoverage"
version = release = metadata.version("hcoverage")
author = copyright = "the authors of hcoverage"  # noqa: A001 - Sphinx's own name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]

# Links to a heading, `combine.md#where-the-code-is`, as GitHub has them.
myst_heading_anchors = 3
exclude_patterns = ["_build", "_changes.md", "_readme.md"]

# Docstrings have `code` in single backticks.
default_role = "code"
smartquotes = False  # `--help` is options
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"hcoverage {version}"
html_show_sphinx = False
html_copy_source = False
