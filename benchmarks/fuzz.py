"""Feed damaged input to the real commands, in process: ``python benchmarks/fuzz.py [--cases 10000] [--seed 0]``.

Each case copies a tiny finished workspace, damages one thing in it (or hands over odd options) and runs one command. Counted
are defects (an exception that was not raised on purpose), hangs over 20 seconds, writes outside the workspace, and changed
submissions that the check passes. The same seed makes the same cases.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]

LONGEST = 20
"""Seconds after which a case counts as a hang."""
MEMORY = 8 * 1024**3
"""Bytes of address space that a process may take, so that reading without end is a defect and not the end of the machine."""
ODD_TEXTS = [
    *("", " ", "NA", "nan", "inf", "-inf", "1e400", "9" * 5000, "-1", "0", "1.5", "\0", "\ud800", "x" * 300, "../up"),
    *("/etc/passwd", "a/b", ".", "..", "-", "--force", "é", "a\nb", '"', "'", "${HOME}", "{0}", "%s", "[" * 2000, "{" * 2000),
    *("&a [*a]", "!!python/none", "*x", "true", "null", "~", "a,b", "\ufeff", "\x1b[31m", "os:system", "😀", "9" * 12, "[red]"),
]
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**30, 1e308, float("inf"), float("nan"), 0.5),
    *([], {}, [[]], [None], {"a": 1}, [1, "a"], *ODD_TEXTS),
]


# ---- Damage. Each takes a random generator and a path that exists, and changes what lies there.


def damage_bytes(rng: random.Random, path: Path) -> None:
    """Flip, cut, insert, repeat or drop bytes."""
    data = bytearray(path.read_bytes())
    at, length = rng.randrange(len(data) + 1), rng.choice([1, 2, 8, 64, 500])
    action = rng.randrange(6)
    if action == 0:
        for _ in range(rng.choice([1, 3, 30])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
    elif action == 1:
        del data[at:]
    elif action == 2:
        data[at:at] = rng.randbytes(length)
    elif action == 3:
        data[at:at] = data[at : at + length]
    elif action == 4:
        del data[at : at + length]
    else:
        data[at : at + length] = rng.choice([b"\0", b"\xff", b"9", b"[", b'"', b"\n", b","]) * length
    path.write_bytes(bytes(data))


def damage_kind(rng: random.Random, path: Path) -> None:
    """Put something else in place of the file."""
    path.unlink()
    action = rng.randrange(6)
    if action == 0:
        os.mkfifo(path)
    elif action == 1:
        path.symlink_to("/dev/zero")
    elif action == 2:
        path.symlink_to(path)
    elif action == 3:
        path.mkdir()
    elif action == 4:
        path.touch()


def damage_json(rng: random.Random, path: Path) -> None:
    """Exchange, drop or nest a value somewhere in a JSON file."""
    path.write_text(json.dumps(_damaged_tree(rng, json.loads(path.read_text()))), encoding="utf-8")


def damage_yaml(rng: random.Random, path: Path) -> None:
    """Exchange, drop or nest a value somewhere in a YAML file, or put odd text into it."""
    import yaml

    text = path.read_text()
    if rng.random() < 0.7:
        text = json.dumps(_damaged_tree(rng, yaml.safe_load(text)))  # which is YAML, too, however deep
    else:
        bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
        lines = text.splitlines(keepends=True)
        lines[rng.randrange(len(lines)) :][:1] = [rng.choice([*ODD_TEXTS, bomb, f"seed: {rng.choice(ODD_TEXTS)}\n"])]
        text = "".join([*lines, rng.choice(["", bomb, "classes: *a9\n", "? [a]\n", "\t\n", "seed: 1\nseed: 2\n"])])
    path.write_bytes(text.encode(errors="surrogatepass"))


def _damaged_tree(rng: random.Random, tree: Any) -> Any:
    """Return ``tree`` with one to three values exchanged."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(tree))
        if not places:
            return rng.choice(ODD_VALUES)
        holder, key = rng.choice(places)
        action = rng.randrange(6)
        if action == 0:
            del holder[key]
        elif action == 1:
            deep: Any = "x"
            for _ in range(rng.choice([5, 60, 400])):
                deep = [deep] if rng.random() < 0.5 else {"a": deep}
            holder[key] = deep
        elif action == 2 and isinstance(holder, dict):
            holder[rng.choice(ODD_TEXTS)] = holder[key]
        elif action == 3:
            other, name = rng.choice(places)
            with contextlib.suppress(LookupError):
                holder[key] = json.loads(json.dumps(other[name]))
        else:
            holder[key] = rng.choice(ODD_VALUES)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def damage_table(rng: random.Random, path: Path) -> None:
    """Exchange cells, drop or repeat rows and columns of a CSV."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    action = rng.randrange(8)
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[row]))
    if action <= 2:
        cell = rng.choice(ODD_TEXTS)
        rows[row][column] = '"' + cell.replace('"', '""') + '"' if rng.random() < 0.5 else cell
    elif action == 3:
        rows = rows[:1]
    elif action == 4:
        rows.insert(row, rows[row])
    elif action == 5:
        for cells in rows:
            del cells[min(column, len(cells) - 1)]
    elif action == 6:
        for cells in rows:
            cells.insert(0, cells[min(column, len(cells) - 1)])
    else:
        del rows[row][column:]
    path.write_bytes("\n".join(",".join(cells) for cells in rows).encode(errors="surrogatepass") + b"\n")


def damage_parquet(rng: random.Random, path: Path) -> None:
    """Give a column of a parquet file another type, empty cells or another name, or damage its record."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    at, rows = rng.randrange(table.num_columns), table.num_rows
    name = table.column_names[at]
    made: Callable[[], Any] = rng.choice(
        [
            lambda: [None] * rows,
            lambda: list(range(rows)),
            lambda: [str(value) for value in range(rows)],
            lambda: [[0.5]] * rows,
            lambda: [{"a": 1}] * rows,
            lambda: [b"\xff\xfe"] * rows,
            lambda: [float("nan")] * rows,
            lambda: [1e308] * rows,
            lambda: [True] * rows,
            lambda: [-0.25] * rows,
        ]
    )
    action = rng.randrange(5)
    if action <= 2:
        table = table.set_column(at, name, pa.array(made()))
    elif action == 3:
        table = rng.choice(
            [table.slice(0, rows // 2), table.slice(0, 0), pa.concat_tables([table, table]), table.remove_column(at)]
        )
    else:
        key = next(iter(table.schema.metadata))
        tree = _damaged_tree(rng, json.loads(table.schema.metadata[key]))
        table = table.replace_schema_metadata({key: json.dumps(tree).encode()})
    pq.write_table(table, path)


def damage_header(rng: random.Random, path: Path) -> None:
    """Damage the header of a safetensors file: its length, its JSON, or the record in it."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    action = rng.randrange(4)
    if action == 0:
        path.write_bytes(struct.pack("<Q", rng.choice([0, 1, 2**63, 2**40, length + 1, length - 1, 99_999_999])) + data[8:])
        return
    if action == 1:
        text = rng.choice(["[" * 50_000, '{"a":' * 50_000, "[]", "null", "{}", '{"a": {}}', '{"__metadata__": 5}', "\0" * 9])
    else:
        if action == 2 and "kaggle_kit" in header.get("__metadata__", {}):
            record = _damaged_tree(rng, json.loads(header["__metadata__"]["kaggle_kit"]))
            header["__metadata__"]["kaggle_kit"] = json.dumps(record)
        else:
            header = _damaged_tree(rng, header)
        text = json.dumps(header)
    path.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + data[8 + length :])


# ---- Cases.


@dataclass(frozen=True)
class Area:
    """A kind of input: where it lies, how it is damaged, and which commands read it.

    Attributes:
        patterns: globs below the workspace.
        changed: whether the damaged file is a submission, which the check must then not pass.
    """

    name: str
    patterns: tuple[str, ...]
    damages: tuple[Callable[[random.Random, Path], None], ...]
    commands: tuple[tuple[str, ...], ...]
    changed: bool = False


_READS = (("blend", "--name", "again"), ("check", "submissions/blend.csv"), ("runs",), ("runs", "run0", "run1"))
_LOOKS = (
    ("folds", "--name", "again"),
    ("init", "data", "--force", "--choose", "label_separator=none"),
    ("check", "submissions/blend.csv"),
)
AREAS = (
    Area("kk.yaml", ("kk.yaml",), (damage_yaml, damage_yaml, damage_yaml, damage_bytes, damage_kind), (*_READS, *_LOOKS)),
    Area("tables of data", ("data/*.csv",), (damage_table, damage_table, damage_bytes, damage_kind), (*_LOOKS, _READS[0])),
    Area("fold tables", ("folds/*.csv",), (damage_table, damage_bytes, damage_kind), (*_READS, ("folds",))),
    Area(
        "records",
        ("runs/*/run.json", "runs/*/*/fold.json", "folds/*.json", "submissions/*.json"),
        (damage_json, damage_json, damage_json, damage_bytes, damage_kind),
        (*_READS, ("runs", "--rm", "run0"), ("folds",), ("submit", "digits", "submissions/blend.csv")),
    ),
    Area(
        "parquet",
        ("runs/**/*.parquet", "submissions/*.parquet"),
        (damage_parquet, damage_parquet, damage_bytes, damage_kind),
        _READS,
    ),
    Area("safetensors", ("runs/**/*.safetensors",), (damage_header, damage_header, damage_bytes, damage_kind), _READS),
    Area("images", ("data/**/*.png",), (damage_bytes, damage_bytes, damage_kind), _LOOKS),
    Area(
        "submissions",
        ("submissions/blend.csv",),
        (damage_table, damage_bytes, damage_kind),
        (("check", "submissions/blend.csv"),),
        changed=True,
    ),
)
_OPTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("blend", ("--name", "--runs", "--method")),
    ("folds", ("--name", "--n-folds", "--seed", "--scheme", "--repeats")),
    ("check", ("",)),
    ("runs", ("--rm", "")),
    ("init", ("", "--choose")),
    ("submit", ("", "--message")),
    ("download", ("", )),
    ("cache", ("",)),
)  # fmt: skip


@dataclass
class Outcome:
    """What one case did. ``kind`` is "fine", "defect", "hang", "outside" or "accepted"."""

    number: int
    area: str
    command: list[str]
    kind: str
    told: str = ""


class _TooLong(BaseException):
    """The alarm went off."""


def prepare(root: Path) -> None:
    """Write the workspace that is damaged: two runs of three folds, a blend and its check."""
    from factories import make_workspace

    make_workspace(root, n_train=60, n_test=24, n_runs=2, n_folds=3, control=24, accuracy=0.95)
    with working_in(root):
        for command in (["blend", "--name", "blend"], ["check", "submissions/blend.csv"]):
            code, told = run_command(command)
            if code not in (0, 3):
                raise RuntimeError(f"kk {' '.join(command)} on the sound workspace ended with {code}: {told}")


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` the current one, with folders for temporary files and for the user beside it."""
    before, path = Path.cwd(), list(sys.path)
    kept = dict(os.environ)
    away = folder.parent / f"{folder.name}-home"
    away.mkdir(exist_ok=True)
    os.environ.update(TMPDIR=str(away), HOME=str(away), KK_DEBUG="1")
    tempfile.tempdir = str(away)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(kept)
        tempfile.tempdir = None


def run_command(arguments: list[str]) -> tuple[int, str]:
    """Run ``kk`` in this process; return its exit code and what it printed."""
    from kaggle_kit.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(arguments)
        except SystemExit as end:
            return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


class Guard:
    """Notes each attempt of this process to write outside the folders that a case may touch."""

    def __init__(self) -> None:
        self.inside: tuple[str, ...] = ()
        self.outside: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.inside:
            return
        if event == "open":
            path, _, flags = arguments
            paths = [path] if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink", "shutil.move"):
            paths = [arguments[1]]
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                place = Path(os.fsdecode(path))
                where = os.path.join(os.path.realpath(place.parent), place.name)  # noqa: PTH118 -- Path.resolve raises for loops
                if not where.startswith((*self.inside, "/dev/null", "/dev/tty", "/proc/self/")):
                    self.outside.append(f"{event} {where}")


def _damaged_case(rng: random.Random, area: Area, root: Path) -> tuple[list[str], bool]:
    """Damage one file; return the command to run and whether a submission was changed by it."""
    found = sorted(path for pattern in area.patterns for path in root.glob(pattern) if path.is_file())
    path = rng.choice(found)
    before = _answers(path) if area.changed else None
    rng.choice(area.damages)(rng, path)
    return list(rng.choice(area.commands)), area.changed and _answers(path) != before


def _answers(path: Path) -> Any:
    """What a submission says, whatever the order of its rows; its bytes where it is no table."""
    if not path.is_file():
        return None
    text = path.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    return sorted(text.splitlines())


def _option_case(rng: random.Random) -> list[str]:
    command, options = rng.choice(_OPTIONS)
    chosen = [part for _ in range(rng.choice([1, 1, 2])) for part in (rng.choice(options), rng.choice(ODD_TEXTS)) if part]
    return [command, *chosen]


def _archive_case(rng: random.Random, root: Path) -> list[str]:
    """Write an archive of odd members, damage it now and then, and let ``kk download`` unpack it."""
    archive = root / "offered.zip"
    warnings.simplefilter("ignore", UserWarning)  # names that are there twice are meant
    with zipfile.ZipFile(archive, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as made:
        for _ in range(rng.randrange(1, 6)):
            name = rng.choice(
                [*ODD_TEXTS, "a.csv", "train/1.png", "kk.yaml", "x/" * 200 + "y", "in.zip", "a.csv/b", ".kk-download.json"]
            )
            with contextlib.suppress(ValueError, IndexError, UnicodeError, struct.error):
                member = zipfile.ZipInfo(name)
                member.external_attr = rng.choice([0, 0o100644, 0o120777, 0o010644, 0o040755]) << 16
                made.writestr(member, rng.choice([b"", b"x" * 10, b"../../etc", bytes(100_000)]))
    if rng.random() < 0.5:
        damage_bytes(rng, archive)
    if rng.random() < 0.3:
        (root / "theirs").mkdir()
        (root / "theirs" / "a.csv").write_text("mine")
    return ["download", "digits", "theirs"]


@contextlib.contextmanager
def _offering(archive: Path) -> Iterator[None]:
    """Let ``kk download`` find ``archive`` where Kaggle would be."""
    from kaggle_kit.kaggle_api import downloading

    def fetch(_slug: str, folder: Path, **_options: Any) -> Any:
        path = folder / "digits.zip"
        shutil.copyfile(archive, path)
        return SimpleNamespace(path=path, name="digits.zip", size=path.stat().st_size, validator="x")

    kept = downloading.connect
    downloading.connect = lambda *_: SimpleNamespace(download=fetch)  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        downloading.connect = kept


def run_case(number: int, seed: int, base: Path, place: Path, guard: Guard) -> Outcome:
    """Run one case in ``place``, which is emptied before."""
    rng = random.Random(f"{seed}:{number}")
    names = [*(area.name for area in AREAS), "options", "archives"]
    name = names[number % len(names)]
    root = place / "w"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, root)
    changed = False
    if name == "options":
        command = _option_case(rng)
    elif name == "archives":
        command = _archive_case(rng, root)
    else:
        command, changed = _damaged_case(rng, next(area for area in AREAS if area.name == name), root)
    outcome = Outcome(number, name, command, "fine")
    guard.outside.clear()
    offered = _offering(root / "offered.zip") if name == "archives" else contextlib.nullcontext()
    with working_in(root), offered:
        guard.inside = (os.path.realpath(place),)
        signal.alarm(LONGEST)
        try:
            code, told = run_command(command)
            if "This is a defect" in told:
                outcome.kind, outcome.told = "defect", told[-2000:]
            elif changed and code == 0:
                outcome.kind, outcome.told = "accepted", told[-2000:]
        except _TooLong:
            outcome.kind, outcome.told = "hang", traceback.format_exc()[-2000:]
        except Exception:
            outcome.kind, outcome.told = "defect", traceback.format_exc()[-2000:]
        finally:
            signal.alarm(0)
            guard.inside = ()
    if outcome.kind == "fine" and guard.outside:
        outcome.kind, outcome.told = "outside", "; ".join(guard.outside[:5])
    return outcome


def fuzz(numbers: range, seed: int, folder: Path, *, on_outcome: Callable[[Outcome], None]) -> None:
    """Run the cases of ``numbers`` in this process."""

    def ring(*_: Any) -> None:
        raise _TooLong

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    before = signal.signal(signal.SIGALRM, ring)
    guard, base = Guard(), folder / "base"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        prepare(base)
        for number in numbers:
            on_outcome(run_case(number, seed, base, folder / "case", guard))
    finally:
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    """Run all cases in a few processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help="run this one case and show what it does")
    parser.add_argument("--out", type=Path, help="write all that is not fine, as JSON lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        if options.case is not None:
            one = range(options.case, options.case + 1)
            fuzz(one, options.seed, Path(folder), on_outcome=lambda outcome: print(outcome.told, outcome))
        elif options.shard is not None:
            mine = range(options.shard, options.cases, options.processes)
            fuzz(mine, options.seed, Path(folder), on_outcome=lambda one: print(json.dumps(asdict(one)), flush=True))
        else:
            _all(options)


def _all(options: argparse.Namespace) -> None:
    begin = time.monotonic()
    arguments = [sys.executable, __file__, "--cases", options.cases, "--seed", options.seed, "--processes", options.processes]
    with contextlib.ExitStack() as stack:  # a file each, since a pipe that nobody reads would stop its process
        outs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(options.processes)]
        shards = [subprocess.Popen([*map(str, [*arguments, "--shard", at])], stdout=out) for at, out in enumerate(outs)]
        for shard, out in zip(shards, outs, strict=True):
            shard.wait()
            out.seek(0)
        told = [Outcome(**json.loads(line)) for out in outs for line in out if line.startswith("{")]
    count = Counter((one.area, one.kind) for one in told)
    kinds = ("defect", "hang", "outside", "accepted")
    print("| input | cases | defects | hangs | writes outside | changed, accepted |\n|---|---|---|---|---|---|")
    for area in dict.fromkeys(one.area for one in sorted(told, key=lambda one: one.number % 10)):
        cases = sum(one.area == area for one in told)
        print(f"| {area} | {cases:,} | {' | '.join(str(count[area, kind]) for kind in kinds)} |")
    sums = [sum(one.kind == kind for one in told) for kind in kinds]
    print(f"| **all** | **{len(told):,}** | {' | '.join(f'**{number}**' for number in sums)} |")
    lost, seconds = options.cases - len(told), time.monotonic() - begin
    print(f"\n{lost} cases did not report (a process that ended); {seconds:.0f} s, seed {options.seed}.")
    if options.out:
        options.out.write_text("".join(json.dumps(asdict(one)) + "\n" for one in told if one.kind != "fine"))
    sys.exit(bool(sum(sums)) or len(told) != options.cases)


if __name__ == "__main__":
    main()
