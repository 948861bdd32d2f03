"""What the data of a competition looks like: inferring it once (``kk init``), and loading it from then on."""

from kaggle_kit.competition.infer import infer_competition
from kaggle_kit.competition.init import init_workspace
from kaggle_kit.competition.load import load_competition
from kaggle_kit.competition.questions import Inference, Question
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.competition.scan import IMAGE_SUFFIXES
from kaggle_kit.competition.setup import Setup, open_setup

__all__ = [
    "IMAGE_SUFFIXES",
    "Competition",
    "ImageRow",
    "Inference",
    "Question",
    "Setup",
    "infer_competition",
    "init_workspace",
    "load_competition",
    "open_setup",
]
