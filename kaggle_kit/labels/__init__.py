"""Labels to review: found by their out-of-fold rows, decided on a page, and what the decisions change."""

from kaggle_kit.labels.effect import ReviewEffect, review_effect
from kaggle_kit.labels.issues import LabelIssues, Suspect, find_issues
from kaggle_kit.labels.server import ReviewServer, Served, serve

__all__ = ["LabelIssues", "ReviewEffect", "ReviewServer", "Served", "Suspect", "find_issues", "review_effect", "serve"]
