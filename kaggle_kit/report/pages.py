"""Writing a page: a template, what it is filled with, and the style sheet and scripts that stand on it.

A page needs no network and allows none: its Content-Security-Policy names the hashes of its own style sheet and scripts, and
forbids everything else, so that no name that came from data could be run even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import webbrowser
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import files
from kaggle_kit.results import Result

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = "templates"
STYLE = "style.css"
IN_PAGE: Mapping[str, str] = {"img-src": "data:"}
"""Where images may come from: the page itself."""
BESIDE_PAGE: Mapping[str, str] = {"img-src": "data: 'self' file:"}
"""Images in a folder beside the page, too."""


class PageResult(Result):
    """Base of results that are a page.

    Attributes:
        path: of the page.
    """

    path: Path

    def open(self) -> bool:
        """Show the page in the browser; return whether there is one."""
        return webbrowser.open(self.path.resolve().as_uri())


def write_page(
    path: Path, template: str, *, scripts: Sequence[str] = (), allowed: Mapping[str, str] = IN_PAGE, **values: Any
) -> None:
    """Write the page that :func:`render_page` makes to ``path``.

    Raises:
        StorageError: the file cannot be written.
    """
    files.write_text(path, render_page(template, scripts=scripts, allowed=allowed, **values))


def render_page(template: str, *, scripts: Sequence[str] = (), allowed: Mapping[str, str] = IN_PAGE, **values: Any) -> str:
    """Return the page made from ``templates/<template>``.

    Args:
        scripts: files of ``templates/`` whose content stands at the end of the page.
        allowed: further entries of the policy, :data:`IN_PAGE` or :data:`BESIDE_PAGE` or others.
        values: what the template names, at least ``title``. Text is escaped; :func:`~kaggle_kit.report.figures.svg_of`,
            :func:`island` and other ``markupsafe.Markup`` is not.
    """
    texts = [_part(name) for name in scripts]
    policy = content_policy([_part(STYLE)], texts, allowed)
    shared = {"style": _part(STYLE), "scripts": texts, "policy": policy, "version": metadata.version("kaggle-kit")}
    return _environment().get_template(template).render({**values, **shared})


def content_policy(styles: Sequence[str], scripts: Sequence[str], allowed: Mapping[str, str]) -> str:
    """Return a Content-Security-Policy that lets these style sheets and scripts stand on a page, and ``allowed``.

    Attributes may hold styles, since figures do; what they could load is forbidden all the same.
    """
    entries = {
        "default-src": "'none'",
        "style-src": _hashes(styles),
        "style-src-attr": "'unsafe-inline'",
        "script-src": _hashes(scripts),
        "base-uri": "'none'",
        "form-action": "'none'",
        **allowed,
    }
    return "; ".join(f"{name} {sources}" for name, sources in entries.items())


def island(value: Any) -> Markup:
    """Return ``value`` as JSON that may stand in ``<script type="application/json">`` of a page, whatever its texts hold."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def _hashes(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


@lru_cache(maxsize=16)
def _part(name: str) -> Markup:
    """The text of a style sheet or script of ours, with ``\\n`` line ends, as a browser hashes it."""
    from markupsafe import Markup

    return Markup(resources.files("kaggle_kit.report").joinpath(TEMPLATES, name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("kaggle_kit.report", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
