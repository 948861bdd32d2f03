"""What would be released: builds sdist and wheel, checks them, and uses the wheel where there is no other kaggle_kit.

    python benchmarks/release.py [--install]

Needs the packages build and twine. The wheel is also built from the sdist, and must hold the same files. The environment takes
the dependencies of this one, so that only the build's own are downloaded; kaggle_kit itself comes from the wheel, and runs
outside of the sources.

With --install each of the two, one after the other, is installed as a user would, `pip install FILE` into an empty environment
with all that it depends on, and does the whole job there: `kk demo --quick`. That takes 7 GB of disk, for PyTorch with CUDA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

from common import describe, hardware

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command, without modules of PYTHONPATH, and return its output; ends the script with what it said if it fails."""
    alone = {**os.environ, "PYTHONPATH": "", "NO_COLOR": "1"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=alone)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def content(wheel: Path) -> dict[str, bytes]:
    """The package's files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("kaggle_kit/")}


def sources() -> dict[str, bytes]:
    """The package's files in the repository."""
    listed = run("git", "ls-files", "-z", "kaggle_kit", cwd=ROOT).split("\0")
    return {name: (ROOT / name).read_bytes() for name in listed if name}


def build(source: Path, out: Path, *kinds: str) -> Sequence[Path]:
    """Build distributions, as `pip` would."""
    run(sys.executable, "-m", "build", *kinds, "--outdir", out, source)
    return sorted(out.iterdir())


def environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel, and the dependencies of this one; returns its kk."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "kk"


def require_own(kk: Path, elsewhere: Path) -> None:
    """End the script unless the environment of `kk` imports the kaggle_kit that was installed into it."""
    where = run(kk.with_name("python"), "-c", "import kaggle_kit; print(kaggle_kit.__file__)", cwd=elsewhere).strip()
    if not Path(where).resolve().is_relative_to(kk.parents[1].resolve()):
        raise SystemExit(f"kaggle_kit was imported from {where}, not from what was installed")


def install_and_use(distribution: Path) -> None:
    """Install as a user would, with all dependencies, and do the whole job there; says how large and how long it was."""
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name, "venv"), time.perf_counter()
        venv.create(folder, with_pip=True)
        kk = folder / "bin" / "kk"
        run(kk.with_name("python"), "-m", "pip", "install", "--no-cache-dir", distribution)
        installed = time.perf_counter() - start
        require_own(kk, Path(name))
        packages = run(kk.with_name("python"), "-m", "pip", "list", "--format", "freeze").splitlines()
        size = sum(path.lstat().st_size for path in folder.rglob("*")) / 1e9
        start = time.perf_counter()
        said = run(kk, "demo", "demo", "--quick", cwd=Path(name)).strip().splitlines()
        done = time.perf_counter() - start
        print(f"\npip install {distribution.name}: {len(packages)} packages, {size:.1f} GB, {installed:.0f} s")
        print(f"kk demo --quick: {done:.0f} s", *said[-2:], sep="\n")


def main() -> None:
    """Build, check, install and use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--install", action="store_true", help="also install both with their dependencies, and do the job there"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = build(ROOT, folder / "dist")
        print(run(sys.executable, "-m", "twine", "check", "--strict", *made).strip())
        wheel = next(path for path in made if path.suffix == ".whl")
        sdist = next(path for path in made if path.name.endswith(".tar.gz"))
        run("tar", "-xzf", sdist, "-C", folder)
        (again,) = build(folder / sdist.name.removesuffix(".tar.gz"), folder / "again", "--wheel")
        if not content(wheel) == content(again) == sources():
            differing = content(wheel).keys() ^ sources().keys()
            raise SystemExit(f"wheel, wheel of the sdist and sources hold other files: {sorted(differing) or 'other bytes'}")
        print(f"{wheel.name}: {len(content(wheel))} files, those of the sources; the sdist gives the same")
        kk, elsewhere = environment(folder / "venv", wheel), folder / "elsewhere"
        elsewhere.mkdir()
        require_own(kk, elsewhere)
        print(run(kk, "--version", cwd=elsewhere).strip())
        run(kk, "models", "lite0", cwd=elsewhere)
        for distribution in (wheel, sdist) if given.install else ():
            install_and_use(distribution)
        print(f"\n{describe(hardware())}")


if __name__ == "__main__":
    main()
