"""Build a kernel of a workspace and prove it offline: times, sizes, memory and the verdict.

    python benchmarks/kernel.py WORKSPACE [--blend NAME | --runs a,b] [--half] [--train] [--limit N]

Builds into a temporary folder, runs ``kk kernel test`` on it (two sessions, each in a fresh environment without a network),
prints a table and writes it to ``benchmarks/results/kernel-<competition>.json``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from kaggle_kit import files, kernel
from kaggle_kit.competition import open_setup
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.workspace import open_workspace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--blend", default="blend")
    parser.add_argument("--runs", default="")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--session-seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    setup = open_setup(open_workspace(arguments.workspace.resolve()))
    chosen = [name for name in arguments.runs.split(",") if name]
    with tempfile.TemporaryDirectory() as temporary:
        begin = time.perf_counter()
        built = kernel.build_kernel(
            setup,
            Path(temporary) / "kernel",
            kernel.Address("somebody"),
            kernel.Content(chosen, arguments.blend, arguments.train, arguments.half, force=True),
        )
        seconds = time.perf_counter() - begin
        print(f"built in {seconds:.1f} s: {sum(built.sizes.values()) / 1e6:.1f} MB in {len(built.sizes)} files")
        for name, size in built.sizes.items():
            print(f"  {size:>12,}  {name}")
        proof = kernel.test_kernel(
            built.folder,
            setup,
            limit=arguments.limit,
            session_seconds=arguments.session_seconds,
        )
        record = files.read_json(built.folder / "test.json", made_by="kk kernel test")
    for session in proof.sessions:
        print(f"\n{session.name}: {session.seconds:.1f} s, peak memory {session.peak_bytes / 1e9:.2f} GB")
        print("\n".join(f"  {line}" for line in session.lines))
    print()
    for check in proof.report.checks:
        print(f"{check.status:<12}  {check.name:<32}  {check.evidence}")
    print("passed" if proof.passed else "FAILED")
    machine = {"cpus": available_cpus(), "processor": platform.processor() or platform.machine(), "load": os.getloadavg()[0]}
    kind = "-training" if arguments.train else "-half" if arguments.half else ""
    path = Path(__file__).parent / "results" / f"kernel-{setup.competition.name.replace(' ', '-')}{kind}.json"
    files.write_json(path, {**record, "build_seconds": round(seconds, 2), "sizes": built.sizes, "machine": machine})
    return 0 if proof.passed else 1


if __name__ == "__main__":
    sys.exit(main())
