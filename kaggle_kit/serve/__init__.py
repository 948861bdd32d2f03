"""``kk serve``: a run or a blend behind HTTP, for programs and for a browser. FastAPI is imported when it is used."""

from kaggle_kit.serve.run import Limits, ServedModels, ServeOptions, serve

__all__ = ["Limits", "ServeOptions", "ServedModels", "serve"]
