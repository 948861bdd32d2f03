"""Kaggle, through its official client: submit, download, push. The client is an optional extra and imported on first use.

What this adds to the client: time limits on every request, bounded retries that never repeat a step which may have been carried
out, resumable transfers, refusals in plain words, and records on disk, so that nothing is uploaded twice.
"""

from kaggle_kit.kaggle_api.account import Credentials, credentials
from kaggle_kit.kaggle_api.downloading import download
from kaggle_kit.kaggle_api.metadata import slug_of
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.pushing import PushResult, push, push_dataset, push_kernel
from kaggle_kit.kaggle_api.records import rank_correlation, submissions_table
from kaggle_kit.kaggle_api.submitting import SubmissionStatus, submit

__all__ = [
    "Credentials",
    "Patience",
    "PushResult",
    "SubmissionStatus",
    "credentials",
    "download",
    "push",
    "push_dataset",
    "push_kernel",
    "rank_correlation",
    "slug_of",
    "submissions_table",
    "submit",
]
