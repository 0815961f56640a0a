"""Sphinx: how the pages are built. `make docs`"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parent))

import apipages
import generated
import sessions

project = "smtpstore"
author = "the authors of smtpstore"
extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "SMTP in, rows out",
    "page_width": "64em",
    "show_powered_by": "false",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_copy_source = False
highlight_language = "text"
smartquotes = False
default_role = "literal"
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
autodoc_class_signature = "separated"


class Generated(SphinxDirective):
    """`.. generated:: name` is what the function of that name makes out of the code."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        made = {**generated.GENERATED, **apipages.GENERATED, **sessions.GENERATED}[name]()
        self.state_machine.insert_input(StringList(made.splitlines(), f"generated:{name}"), "")
        return []


def setup(app: Sphinx) -> None:
    app.add_directive("generated", Generated)
