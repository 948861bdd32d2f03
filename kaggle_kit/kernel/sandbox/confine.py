"""Taking rights away from this process before it runs a notebook: another user, and a file system to look at only.

``kk kernel test`` starts ``sandbox.execute`` inside namespaces of its own where the machine allows them. There the home folder
is hidden, all but the session's own folders is mounted read-only, and the program then goes on as a user who owns nothing,
without any capability and unable to gain one. What a machine does not allow is told, never passed over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_NOBODY = 65534
_UNREAL = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "securityfs", "debugfs", "tracefs", "bpf")


@dataclass(frozen=True)
class Folders:
    """What the notebook's process may see and do.

    Attributes:
        root: the session's folder; it can be read.
        writable: folders that can be written.
        read_only: folders that cannot, even where nothing else is protected.
        environment: the virtual environment of the notebook.
    """

    root: Path
    writable: tuple[Path, ...]
    read_only: tuple[Path, ...]
    environment: Path

    @property
    def needed(self) -> list[Path]:
        """Return the folders that must stay visible where the home folder is hidden: interpreter, packages, session."""
        roots = [
            Path(sys.prefix),
            Path(sys.base_prefix),
            *(Path(entry) for entry in sys.path if entry),
            self.root,
            self.environment,
        ]
        found = sorted({path.resolve() for path in roots if path.exists()})
        return [path for path in found if not any(path != other and path.is_relative_to(other) for other in found)]


def confine(folders: Folders, *, may_mount: bool) -> tuple[list[str], list[str]]:
    """Take away what can be taken away; return the command to go on under, and what this machine does not allow.

    Args:
        may_mount: whether this process is in a mount namespace of its own.
    """
    nobody = _may_become_nobody()
    if nobody:
        _give(folders, _NOBODY)
    missing = list(_mounts(folders)) if may_mount else ["a read-only file system: no mount namespace"]
    prefix, lacking = _unprivileged(folders, nobody=nobody)
    return prefix, missing + lacking


def _give(folders: Folders, owner: int) -> None:
    """Let ``owner`` have the writable folders, and everybody look into the session's."""
    for folder in folders.writable:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)
    folders.root.chmod(0o755)


def _mounts(folders: Folders) -> Iterator[str]:
    """Hide private folders and make all but the writable ones read-only; yield what could not be done."""
    for folder in _private(folders):
        if not _hide(folder, folders):
            yield f"hiding {folder}"
    if not all(_mount("--bind", path, path) for path in folders.writable):
        yield "writable folders on a read-only file system"
        return
    for path in folders.read_only:
        if not (_mount("--bind", path, path) and _mount("-o", "remount,bind,ro", path)):
            yield f"mounting {path.name} read-only"
    open_still = [str(point) for point in _real_mounts() if not _read_only(point, folders.writable)]
    if open_still:
        yield f"mounting {', '.join(open_still)} read-only"
    if not _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"):
        yield "shared memory of its own"


def _private(folders: Folders) -> list[Path]:
    """Return the home folder, and the outermost folders around what is needed that others may not enter."""
    home = Path.home().resolve()
    found = {home} if home != Path("/") and home.is_dir() else set()
    for path in folders.needed:
        closed = [above for above in path.parents if not above.stat().st_mode & 0o001]
        found |= set(closed[-1:])
    return sorted(path for path in found if not any(path != other and path.is_relative_to(other) for other in found))


def _read_only(point: Path, writable: Sequence[Path]) -> bool:
    return any(point.is_relative_to(path) for path in writable) or _mount("-o", "remount,bind,ro", point)


def _hide(hidden: Path, folders: Folders) -> bool:
    """Lay an empty folder over ``hidden``, with only what is needed in it."""
    needed = [path for path in folders.needed if path.is_relative_to(hidden)]
    if hidden in needed or not _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"):
        return False
    held = {path: Path("/dev/shm") / f"held-{at}" for at, path in enumerate(needed)}
    for path, place in held.items():
        place.mkdir()
        if not _mount("--rbind", path, place):
            return False
    if not _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", hidden):
        return False
    for path, place in held.items():
        path.mkdir(parents=True, exist_ok=True)
        if not _mount("--rbind", place, path):
            return False
    return True


def _real_mounts() -> list[Path]:
    """Return the mount points of file systems that hold files, the innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        about, _, source = line.partition(" - ")
        if source.split()[0] not in _UNREAL:
            points.append(Path(about.split()[4].encode().decode("unicode_escape")))
    return sorted(set(points), reverse=True)


def _mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode == 0


def _unprivileged(folders: Folders, *, nobody: bool) -> tuple[list[str], list[str]]:
    """Return the command that takes the rights away, and what it cannot take."""
    if not shutil.which("setpriv"):
        return [], ["dropping privileges: setpriv (util-linux) is not installed"]
    bare = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    other = [*bare, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    if nobody and _works(other, folders):
        return other, []
    lacking = []
    if nobody:
        _give(folders, os.geteuid())
        lacking = ["another user: what the notebook needs cannot be reached by others, so it runs as root without capabilities"]
    if os.geteuid() == 0 and _works(bare, folders):
        return bare, lacking
    return ["setpriv", "--no-new-privs"], [*lacking, *(["dropping capabilities"] if os.geteuid() == 0 else [])]


def _may_become_nobody() -> bool:
    """Return whether this is root, and not only within a user namespace that holds nobody else."""
    if os.geteuid() != 0:
        return False
    mapped = Path("/proc/self/uid_map").read_text(encoding="utf-8").split()
    return int(mapped[0]) <= _NOBODY < int(mapped[0]) + int(mapped[2])


def _works(prefix: Sequence[str], folders: Folders) -> bool:
    """Try whether under these rights Python starts, finds its packages and reaches the session's folders."""
    script = "import sys, os, nbclient; ok = all(os.access(path, os.W_OK | os.X_OK) for path in sys.argv[1:]); sys.exit(not ok)"
    command = [*prefix, sys.executable, "-c", script, *map(str, folders.writable)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
