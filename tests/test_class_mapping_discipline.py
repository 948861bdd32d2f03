"""Class names and class indices meet in `Classes` only. Walks the package's syntax trees, so that nobody has to remember."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kaggle_kit"
ALLOWED = {"tables/classes.py", "sparse.py", "metrics.py", "diagnosis.py", "training/losses.py", "models/heads.py"}
"""Where an index may be drawn from probabilities: the definition of Classes, and metrics and their like, which count and give
names by Classes only. Of heads, the one that finds the nearest among kept rows."""
ALLOWED_FOLDERS = {"check"}
"""The checker reads files again with its own code; it must not lean on the code that it checks."""
CLASS_WORDS = {"classes", "class_names", "labels", "label_names", "categories", "class_list"}
INDEX_METHODS = {"argmax", "nanargmax", "topk"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def allowed(path: Path) -> bool:
    relative = path.relative_to(PACKAGE)
    return relative.as_posix() in ALLOWED or relative.parts[0] in ALLOWED_FOLDERS


def last_name(node: ast.AST) -> str:
    """`labels` of `labels`, `row.labels`, `self.labels` and `labels.items()`."""
    if isinstance(node, ast.Attribute):
        return last_name(node.value) if node.attr in ("keys", "items", "values", "names", "tolist") else node.attr
    if isinstance(node, ast.Call):
        if last_name(node.func) in ("set", "list", "tuple", "dict", "unique", "Classes") and node.args:
            return last_name(node.args[0])
        return last_name(node.func)
    if isinstance(node, ast.Starred | ast.Subscript):
        return last_name(node.value)
    return node.id if isinstance(node, ast.Name) else ""


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and reason of every place where a class index or order is made."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute) and name in INDEX_METHODS:
            yield node.lineno, f".{name}( makes an index; use Classes.top"
        if name in ("sorted", "enumerate") and node.args and last_name(node.args[0]) in CLASS_WORDS:
            yield node.lineno, f"{name}({last_name(node.args[0])}) makes an order of its own; use Classes"
        if name == "sort" and isinstance(node.func, ast.Attribute) and last_name(node.func.value) in CLASS_WORDS:
            yield node.lineno, "sorts classes in place; use Classes"
        if name == "LabelEncoder":
            yield node.lineno, "LabelEncoder sorts lexically; use Classes.encode"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_classes_turns_names_into_indices(path: Path) -> None:
    if allowed(path):
        return
    found = list(offences(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, "\n".join(f"{path.relative_to(PACKAGE.parent)}:{line}: {reason}" for line, reason in found)


@pytest.mark.parametrize(
    "code",
    [
        "order = sorted(labels)",
        "order = sorted(set(labels))",
        "order = sorted(row.labels)",
        "for index, name in enumerate(classes): pass",
        "table = {name: index for index, name in enumerate(config.classes)}",
        "table = {name: index for index, name in enumerate(classes.names)}",
        "top = probs.argmax(axis=1)",
        "top = self.probs.argmax(1)",
        "top = np.argmax(values, axis=1)",
        "top = logits.softmax(1).argmax(1)",
        "class_names.sort()",
        "codes = LabelEncoder().fit_transform(column)",
    ],
)
def test_the_walk_sees(code: str) -> None:
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["sorted(paths)", "enumerate(rows)", "distances.argmin()", "classes.top(probs)", "sorted(ids)"]
)
def test_the_walk_lets_pass(code: str) -> None:
    assert not list(offences(ast.parse(code)))


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_exceptions_are_needed(name: str) -> None:
    """A module that was renamed or mended must not leave a hole behind."""
    assert list(offences(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))))


def test_the_checker_is_where_it_was() -> None:
    assert all((PACKAGE / name).is_dir() for name in ALLOWED_FOLDERS)
