"""Writing a page: a template, what it is filled with, and the style sheet that all pages share."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import files

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = "templates"


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page made from ``templates/<template>`` to ``path``.

    Args:
        values: what the template names. Text is escaped; :func:`~kaggle_kit.report.figures.svg_of` and other
            ``markupsafe.Markup`` is not.

    Raises:
        StorageError: the file cannot be written.
    """
    files.write_text(path, _environment().get_template(template).render(values))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("kaggle_kit.report", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("kaggle_kit.report").joinpath(TEMPLATES, "style.css").read_text(encoding="utf-8")
    made.globals["style"] = Markup(style)
    return made
