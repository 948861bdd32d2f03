"""What the benchmarks share: contestants that take turns, the hardware in words, tables and results.

Only the standard library is imported at the top, so that a peer's worker can use this file from another Python environment.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
QUIET = 3.0
"""Load average up to which two CPUs count as left alone; beyond it a table says that the machine was shared."""


class Stage:
    """A worker's side of the turns: it reports what it did and waits until it is told to go on.

    Reports go through the worker's first standard output; whatever libraries print goes to standard error.
    """

    def __init__(self) -> None:
        self._reports = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def report(self, **facts: Any) -> None:
        """Report and wait; the process ends here when no more turns are wanted."""
        print(json.dumps(facts), file=self._reports, flush=True)
        if sys.stdin.readline().strip() != "go":
            raise SystemExit(0)


class Contestant:
    """A worker process, which does nothing but in its turns."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.turns: list[dict[str, Any]] = []
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the object
        self._caches = tempfile.TemporaryDirectory()  # what one process compiled must not help another
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": self._caches.name, "NO_ALBUMENTATIONS_UPDATE": "1"},
        )  # fmt: skip
        self.facts = self._read()

    def turn(self) -> dict[str, Any]:
        """Let it work until its next report; returns that, with the seconds that passed and those that CPUs worked for it."""
        cpu, start = self._cpu_seconds(), time.perf_counter()
        print("go", file=self._process.stdin, flush=True)
        facts = self._read()
        wall = time.perf_counter() - start
        self.turns.append({**facts, "active_seconds": wall, "cpu_seconds": self._cpu_seconds() - cpu})
        return self.turns[-1]

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._caches.cleanup()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self.name} ended before its time:\n{self._log.read()[-4000:]}")
        report: dict[str, Any] = json.loads(line)
        return report

    def _cpu_seconds(self) -> float:
        """Of the process, its living children and those that it has waited for."""
        import psutil

        total = 0.0
        process = psutil.Process(self._process.pid)
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total


def start_all(
    ours: Mapping[str, Sequence[str]], peers: Mapping[str, str], job: Mapping[str, Any], folder: Path, fastai_python: str | None
) -> list[Contestant]:
    """A process for each contestant, ours first.

    Args:
        ours: name -> further arguments of the calling script, which is started with ``--worker JOB``.
        peers: name -> worker of ``peers.py``; those of fastai need ``fastai_python``, and are left out without it.
        job: what each of them reads from a file in ``folder``.
    """
    description = folder / "job.json"
    description.write_text(json.dumps(job), encoding="utf-8")
    this = str(Path(sys.argv[0]).resolve())
    contestants = [
        Contestant(name, [sys.executable, this, "--worker", str(description), *arguments]) for name, arguments in ours.items()
    ]
    for name, worker in peers.items():
        python = fastai_python if worker.endswith("fastai") else sys.executable
        if python is None:
            say("fastai is left out: give the Python of an environment that has it with --fastai-python")
            continue
        contestants.append(Contestant(name, [python, str(HERE / "peers.py"), worker, str(description)]))
    return contestants


def in_turns(contestants: Sequence[Contestant], rounds: int) -> None:
    """A B C A B C ...: whatever else the machine does meets all of them alike."""
    for number in range(rounds):
        for contestant in contestants:
            facts = contestant.turn()
            rate = f"{facts['images'] / facts['seconds']:.2f} img/s" if facts.get("images") else ""
            say(f"round {number + 1}/{rounds}  {contestant.name}: {facts['active_seconds']:.1f} s  {rate}")


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    """The median of at least one value."""
    return float(statistics.median(values))


def photographs(folder: Path, count: int) -> list[Path]:
    """``count`` images below ``folder``, spread evenly over all of them; fewer where there are not as many."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SystemExit(f"no images below {folder}")
    step = max(1, len(found) // count)
    return found[::step][:count]


def hardware(**more: Any) -> dict[str, Any]:
    """The machine, and how busy it is now."""
    facts: dict[str, Any] = {"cpu": cpu_name(), "cpus": available_cpus(), "system": platform.platform(terse=True)}
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        facts["memory_gb"] = round(int(meminfo.read_text().split("MemTotal:")[1].split()[0]) / 2**20, 1)
    return {**facts, "python": platform.python_version(), "load": round(os.getloadavg()[0], 2), **more}


def describe(facts: Mapping[str, Any]) -> str:
    """One line of :func:`hardware`, for below a table."""
    shared = f"; load average {facts['load']}: the machine was shared" if facts["load"] > max(QUIET, facts["cpus"] + 1) else ""
    memory = f", {facts['memory_gb']} GB" if "memory_gb" in facts else ""
    return f"{facts['cpus']} x {facts['cpu']}{memory}, Python {facts['python']}{shared}"


def cpu_name() -> str:
    """The model name that the system gives."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """As Markdown, aligned."""
    titles = list(rows[0])
    cells = [[_cell(row.get(title)) for title in titles] for row in rows]
    widths = [max(len(title), *(len(row[at]) for row in cells)) for at, title in enumerate(titles)]
    for line in (titles, ["-" * width for width in widths], *cells):
        print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def write_results(path: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], **more: Any) -> None:
    """Write the table and all that it came from."""
    from kaggle_kit import files

    content = {"hardware": dict(facts), "versions": files.versions(), **more, "results": [dict(row) for row in rows]}
    files.write_json(path, content)
    say(f"written: {path}")


def judge(name: str, found: float | None, wanted: float, *, unit: str = "x") -> str:
    """One line: was the target met, and if not by how much it was missed."""
    if found is None:
        return f"{name}: not measured (wanted {wanted:g}{unit})"
    verdict = "met" if found >= wanted else f"missed by {100 * (1 - found / wanted):.0f} %"
    return f"{name}: {found:.2f}{unit}, wanted {wanted:g}{unit}: {verdict}"
