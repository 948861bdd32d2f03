"""From image files to probabilities: views, engines, and the one prediction path."""

from kaggle_kit.inference.folder import find_images, find_models, predict_folder, predict_to_csv
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.job import PredictOptions
from kaggle_kit.inference.outputs import RunPrediction
from kaggle_kit.inference.predict import Compute, predict_model, predict_rows
from kaggle_kit.inference.run import compute_of, predict_runs
from kaggle_kit.machine.device import choose_device

__all__ = [
    "Compute",
    "PredictOptions",
    "RunPrediction",
    "choose_device",
    "compute_of",
    "find_images",
    "find_models",
    "predict_folder",
    "predict_model",
    "predict_rows",
    "predict_runs",
    "predict_to_csv",
    "to_input",
]
