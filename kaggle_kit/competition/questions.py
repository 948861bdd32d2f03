"""Conclusions, and questions where the data allows several: asked, answered by a choice, or left to a stated default."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from kaggle_kit.config import CompetitionConfig, FoldsConfig
from kaggle_kit.errors import AmbiguousDataError, ConfigError
from kaggle_kit.registry import suggest
from kaggle_kit.results import Result, plain

_PLAIN = re.compile(r"[\w./-]+")


@dataclass(frozen=True)
class Question:
    """Something that the data does not settle.

    Attributes:
        key: what ``kk init DATA --choose key=value`` names it by.
        text: the question.
        options: value -> what it would mean.
        chosen: the default that was taken; None when no default is safe.
    """

    key: str
    text: str
    options: Mapping[str, str]
    chosen: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.key}: {self.text}"]
        for value, meaning in self.options.items():
            taken = " (taken)" if value == self.chosen else ""
            lines.append(f"    --choose {quoted(f'{self.key}={value}')}  {meaning}{taken}")
        return "\n".join(lines)

    @property
    def choice(self) -> str:
        """The option of ``kk init`` that takes the first answer."""
        return f"--choose {quoted(f'{self.key}={next(iter(self.options))}')}"


@dataclass(frozen=True, repr=False)
class Inference(Result):
    """What ``kk init`` concluded.

    Attributes:
        config: the ``competition`` section of kk.yaml.
        folds: its ``folds`` section.
        findings: what was concluded and why, in plain sentences.
        questions: those that a default was taken for.
    """

    config: CompetitionConfig
    findings: list[str]
    questions: list[Question]
    folds: FoldsConfig = field(default_factory=FoldsConfig)

    def describe(self) -> str:
        """Return the conclusions, and the questions that were settled by a default."""
        lines = [f"- {finding}" for finding in self.findings]
        if self.questions:
            lines += ["", "Open to another reading (a default was taken):", *map(str, self.questions)]
        return "\n".join([*lines, "", "wrote kk.yaml"])

    def to_dict(self) -> dict[str, Any]:
        """Return what was concluded and asked."""
        config = self.config
        known = {"name": config.name, "task": config.task, "metric": config.metric, "classes": list(config.classes)}
        return {**known, "findings": list(self.findings), "questions": plain(self.questions)}


class Asker:
    """Collects findings and questions while the data is read.

    A question without a safe default does not stop the reading: its first option is taken for the time being, so that later
    questions are found, too. :meth:`settle` then raises all of them together.
    """

    def __init__(self, choices: Mapping[str, str]) -> None:
        self.findings: list[str] = []
        self.questions: list[Question] = []
        self.hints: dict[str, str] = {}
        self.hinted_by = ""
        self.command = "kk init DATA_DIR"
        self._choices = dict(choices)
        self._asked: list[str] = []

    def find(self, sentence: str) -> None:
        """Note a conclusion."""
        self.findings.append(sentence)

    def ask(
        self, key: str, text: str, options: Mapping[str, str], *, default: str | None = None, settled: str | None = None
    ) -> str:
        """The value for ``key``: the choice that was made, else ``default``, else provisionally the first option.

        Args:
            settled: why ``default`` needs no asking; then the question becomes a finding.

        Raises:
            ConfigError: the choice made is none of ``options``.
        """
        self._asked.append(key)
        if key in self._choices:
            value = self._choices[key]
            if value not in options:
                raise ConfigError(
                    f"--choose {key}={value}: expected one of {', '.join(options)}.{suggest(value, options)} {text}"
                )
            self.find(f"{key} is {value}, as you chose: {options[value]}.")
            return value
        hint = self.hints.get(key)
        if hint is not None and hint in options and not (settled is not None and default == hint):
            self.find(f"{key} is {hint}, as known of {self.hinted_by}: {options[hint]}.")
            return hint
        if settled is not None and default is not None:
            self.find(settled)
            return default
        self.questions.append(Question(key, text, options, default))
        return default if default is not None else next(iter(options))

    def said(self, key: str) -> list[str]:
        """The choice that was made, if any, without asking for it: one that nothing asks for later is refused."""
        return [self._choices[key]] if key in self._choices else []

    def given(self, key: str) -> str | None:
        """A choice that is never asked for but may be made."""
        self._asked.append(key)
        return self._choices.get(key)

    def given_folders(self, key: str, known: Collection[str]) -> list[str]:
        """A choice of folders, separated by commas, that is never asked for but may be made.

        Raises:
            ConfigError: one of them is none of ``known``.
        """
        folders = [folder.strip().strip("/") for folder in (self.given(key) or "").split(",") if folder.strip()]
        unknown = [folder for folder in folders if folder != "." and folder not in known]
        if unknown:
            raise ConfigError(f"--choose {key}={','.join(folders)}: the data folder has no folder {', '.join(unknown)}.")
        return folders

    @property
    def unanswered(self) -> list[Question]:
        return [question for question in self.questions if question.chosen is None]

    def settle(self) -> None:
        """Refuse to go on with questions that have no safe default, or with choices that nothing asked for.

        Raises:
            AmbiguousDataError: lists the questions, their options and how to choose.
            ConfigError: a choice names a question that this data does not raise.
        """
        if self.unanswered:
            raise self.ambiguity()
        unused = [key for key in self._choices if key not in self._asked]
        if unused:
            asked = list(dict.fromkeys(self._asked))
            raise ConfigError(
                f"--choose {unused[0]}=…: this data raises no such question.{suggest(unused[0], asked)} "
                f"What can be chosen here: {', '.join(asked)}."
            )

    def ambiguity(self) -> AmbiguousDataError:
        """The error for all questions without a safe default."""
        count = len(self.unanswered)
        listed = "\n  ".join(str(question).replace("\n", "\n  ") for question in self.unanswered)
        return AmbiguousDataError(
            f"the data can be read in more than one way; {count} question{'s' if count > 1 else ''} to settle with "
            f"`kk init DATA_DIR --choose key=value`:\n  {listed}\nFor example: {self.command} "
            + " ".join(question.choice for question in self.unanswered),
            self.unanswered,
        )


def quoted(text: str) -> str:
    """``text`` as one word of a shell command."""
    return text if _PLAIN.fullmatch(text.replace("=", "", 1)) else "'" + text.replace("'", "'\\''") + "'"
