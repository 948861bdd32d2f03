"""HTML pages that need no network: jinja2 templates, one style sheet, figures as inline SVG."""

from kaggle_kit.report.figures import INK, svg_of
from kaggle_kit.report.pages import write_page

__all__ = ["INK", "svg_of", "write_page"]
