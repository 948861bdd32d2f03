"""One session of a notebook in the sandbox, as Kaggle would run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import DependencyError, KaggleKitError
from kaggle_kit.kernel.sandbox.environment import Environment
from kaggle_kit.kernel.sandbox.inputs import fingerprints

_MODULES = ("nbclient", "nbformat", "ipykernel")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of IPython's tracebacks
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Isolation:
    """What this machine allows.

    Attributes:
        prefix: what a command is started with to have no network; empty where that is not allowed.
    """

    prefix: tuple[str, ...]

    @property
    def words(self) -> str:
        if self.prefix:
            return "a network namespace without any interface"
        return "connections are refused by Python only: this machine does not allow network namespaces"


@dataclass(frozen=True)
class Session:
    """How a notebook ran.

    Attributes:
        error: what ended it early, or "".
        lines: what the cells printed.
        changed: input files that were changed.
        missing: what of the sandbox this machine does not allow.
    """

    name: str
    working: Path
    error: str
    seconds: float
    peak_bytes: int
    lines: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    executed: Path
    environment: Environment


def require_client() -> None:
    """Raises DependencyError unless what executes notebooks is installed."""
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise DependencyError(f"`kk kernel test` needs {', '.join(missing)}: pip install 'kaggle-kit[kernel]'.")


def find_isolation() -> Isolation:
    """The strictest way without a network that this machine allows."""
    if shutil.which("unshare"):
        for options in (["--net", "--mount"], ["--net", "--mount", "--map-root-user"]):
            prefix = ["unshare", *options]
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                return Isolation(tuple(prefix))
    return Isolation(())


def run_session(
    name: str,
    notebook: Path,
    root: Path,
    *,
    environment: Environment,
    isolation: Isolation,
    timeout: float,
    variables: Mapping[str, str] | None = None,
) -> Session:
    """Execute ``notebook`` with ``root/input`` as its inputs, which it cannot change, and ``root/working`` to write to.

    Raises:
        KaggleKitError: the session could not be started at all; an error in a cell is told by the session.
    """
    root = root.resolve()
    inputs, told = root / "input", root / "told"
    for folder in (root / "working", root / "home", told):
        folder.mkdir(parents=True, exist_ok=True)
    for path in [inputs, *inputs.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    shutil.copyfile(notebook, root / "notebook.ipynb")
    before = fingerprints(inputs)
    request = _request(root, environment, variables or {}, timeout=timeout, may_mount=bool(isolation.prefix))
    files.write_json(root / "request.json", request)
    # -P: nothing that lies in the folder where one stands is imported.
    command = [*isolation.prefix, sys.executable, "-P", "-m", "kaggle_kit.kernel.sandbox.execute", str(root / "request.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (told / "answer.json").is_file():
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise KaggleKitError(f"the notebook could not be started in the sandbox: {last}")
    answer = files.read_json(told / "answer.json", made_by="kk kernel test")
    after = fingerprints(inputs)
    changed = tuple(sorted(path for path in {*before, *after} if before.get(path) != after.get(path)))
    for path in [inputs, *inputs.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)  # so that the folder can be removed
    executed = told / "executed.ipynb"
    lines = tuple(printed(json.loads(executed.read_text(encoding="utf-8"))["cells"]))
    error = _COLOURS.sub("", answer["error"])
    return Session(
        name,
        root / "working",
        error,
        answer["seconds"],
        answer["peak_bytes"],
        lines,
        changed=changed,
        missing=tuple(answer["missing"]),
        executed=executed,
        environment=environment,
    )


def _request(
    root: Path, environment: Environment, variables: Mapping[str, str], *, timeout: float, may_mount: bool
) -> dict[str, Any]:
    """Return what the process that executes ``root/notebook.ipynb`` is told: with what, where, and what it may touch."""
    inputs, working, home, told = root / "input", root / "working", root / "home", root / "told"
    kept = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
    own = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "KK_INPUT_ROOT": str(inputs),
        "KK_WORKING_ROOT": str(working),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {
        "notebook": str(root / "notebook.ipynb"),
        "python": str(environment.python),
        "cwd": str(working),
        "env": {**kept, **own, **variables},
        "timeout": timeout,
        "root": str(root),
        "environ": {"HOME": str(home), "TMPDIR": str(home)},
        "read_only": [str(inputs)],
        "writable": [*map(str, (working, home, told)), str(environment.python.parent.parent)],  # wheels are installed there
        "may_mount": may_mount,
        "executed": str(told / "executed.ipynb"),
        "answer": str(told / "answer.json"),
    }


def printed(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines that the cells of an executed notebook printed."""
    lines: list[str] = []
    for cell in cells:
        for output in cell.get("outputs", ()):
            if output.get("output_type") == "stream":
                text = output["text"]
                lines += ("".join(text) if isinstance(text, list) else text).splitlines()
    return lines
