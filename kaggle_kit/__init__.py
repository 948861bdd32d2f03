"""kaggle_kit: from a folder of images to a checked submission.csv."""

__version__ = "0.1.0"
