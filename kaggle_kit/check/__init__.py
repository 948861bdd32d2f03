"""Whether a submission would be accepted, and whether every class stands where it should. Reads files; runs no model.

Shares no code with the writer of submissions, so that the two cannot share a mistake.
"""

from kaggle_kit.check.report import Check, CheckReport, record_path, require_passed
from kaggle_kit.check.verdict import CHECKS, check_submission

__all__ = ["CHECKS", "Check", "CheckReport", "check_submission", "record_path", "require_passed"]
