"""timm models: finding pretrained weights, building, freezing, saving and loading."""

from kaggle_kit.models.build import (
    build_model,
    combine_models,
    freeze,
    image_spec,
    load_pretrained,
    model_name,
    set_train_mode,
    unwrap,
)
from kaggle_kit.models.split import Backbone, Parts, backbone_fingerprint, heads_of, split_model
from kaggle_kit.models.storage import LoadedModel, load_model, read_header, save_model
from kaggle_kit.models.weights import PACKAGES, Weights, find_local_weights, find_weights, licence_of, resolve_name

__all__ = [
    "PACKAGES",
    "Backbone",
    "LoadedModel",
    "Parts",
    "Weights",
    "backbone_fingerprint",
    "build_model",
    "combine_models",
    "find_local_weights",
    "find_weights",
    "freeze",
    "heads_of",
    "image_spec",
    "licence_of",
    "load_model",
    "load_pretrained",
    "model_name",
    "read_header",
    "resolve_name",
    "save_model",
    "set_train_mode",
    "split_model",
    "unwrap",
]
