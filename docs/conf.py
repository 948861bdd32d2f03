"""The site of the documentation: ``make docs`` builds it into docs/_build/."""

import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

import kaggle_kit

HERE = Path(__file__).parent
project, author, copyright = "kaggle_kit", "the kaggle_kit authors", "the kaggle_kit authors"
release = version = kaggle_kit.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
html_theme, html_title = "furo", "kaggle_kit"
exclude_patterns = ["_build"]
myst_enable_extensions, myst_heading_anchors = ["colon_fence"], 3
autodoc_member_order, autodoc_typehints = "bysource", "description"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False


def setup(app: Sphinx) -> None:
    """Write the page of all commands from the command line itself, and let links to the repository's other pages stay here."""
    app.connect("builder-inited", lambda _: _write_commands())
    app.connect("source-read", _turn_links)


def _turn_links(_app: Sphinx, _name: str, content: list[str]) -> None:
    content[0] = content[0].replace("](../benchmarks/README.md", "](measurements.md")


def _write_commands() -> None:
    command = [sys.executable, "-m", "typer", "kaggle_kit.cli", "utils", "docs", "--name", "kk", "--title", "All commands"]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (HERE / "commands.md").write_text(made, encoding="utf-8")
