"""Asking on a terminal what the data does not settle."""

from __future__ import annotations

import sys

from kaggle_kit.errors import AmbiguousDataError
from kaggle_kit.show.terminal import quiet


def ask(error: AmbiguousDataError) -> dict[str, str]:
    """Return the answers to the questions of an error, by their keys; typed by number or by name.

    Raises:
        AmbiguousDataError: nobody sits at a terminal, or nothing was typed: the error itself.
    """
    if quiet() or not error.questions or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise error
    answers = {}
    for question in error.questions:
        options = list(question.options)
        lines = [f"  {number}  {value}: {question.options[value]}" for number, value in enumerate(options, 1)]
        sys.stderr.write("\n".join([f"{question.key}: {question.text}", *lines]) + "\n")
        while question.key not in answers:
            sys.stderr.write(f"1 to {len(options)}, or nothing to stop: ")
            sys.stderr.flush()
            typed = sys.stdin.readline().strip()
            if not typed:
                raise error
            value = options[int(typed) - 1] if typed.isdecimal() and 1 <= int(typed) <= len(options) else typed
            if value in question.options:
                answers[question.key] = value
    return answers
