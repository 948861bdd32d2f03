"""Kaggle, through its official client: submit, download, push. The client is an optional extra and imported on first use.

What this adds to the client: time limits, gates before anything is sent, records on disk and a look at Kaggle's lists so that
nothing is sent twice, refusals in plain words, and an unpacker that replaces nobody's files.
"""

from kaggle_kit.kaggle_api.downloading import download
from kaggle_kit.kaggle_api.metadata import slug_of
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.pushing import PushResult, push, push_dataset, push_kernel
from kaggle_kit.kaggle_api.submitting import SubmissionStatus, submit
from kaggle_kit.runs.submissions import rank_correlation, submissions_table

__all__ = [
    "Patience",
    "PushResult",
    "SubmissionStatus",
    "download",
    "push",
    "push_dataset",
    "push_kernel",
    "rank_correlation",
    "slug_of",
    "submissions_table",
    "submit",
]
