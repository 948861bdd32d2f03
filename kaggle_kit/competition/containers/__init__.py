"""Files that hold many images: unpacked once into ordinary files in the workspace, so that all else reads files only.

A container is one entry of :data:`kaggle_kit.choices.CONTAINERS`: a :class:`~kaggle_kit.competition.containers.base.Container`
that recognises its files and reads pictures from them one after the other. To add one, write its module here and its entry
there; the conformance tests in ``tests/competition/test_containers.py`` run over the registry.
"""

from kaggle_kit.competition.containers.detect import find_containers
from kaggle_kit.competition.containers.unpacking import Progress, data_folder, makes, needed, unpack

__all__ = ["Progress", "data_folder", "find_containers", "makes", "needed", "unpack"]
