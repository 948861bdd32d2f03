"""Where labels come from: one entry of :data:`kaggle_kit.choices.LAYOUTS` each.

To add a layout, write its module with a :class:`~kaggle_kit.competition.layouts.base.Layout` here and its entry there; the
conformance tests in ``tests/competition/test_layouts.py`` run over the registry.
"""

from kaggle_kit.competition.layouts.base import Layout, Material

__all__ = ["Layout", "Material"]
