"""HTML pages that need no network: jinja2 templates, one style sheet, figures as inline SVG, thumbnails as WebP."""

from kaggle_kit.report.figures import INK, svg_of
from kaggle_kit.report.gallery import Album, Picture
from kaggle_kit.report.pages import BESIDE_PAGE, IN_PAGE, island, render_page, write_page

__all__ = ["BESIDE_PAGE", "INK", "IN_PAGE", "Album", "Picture", "island", "render_page", "svg_of", "write_page"]
