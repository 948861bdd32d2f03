"""What a built notebook prints when something is wrong, and whether there is a submission all the same.

    python benchmarks/kernel_faults.py WORKSPACE [--blend NAME]

Each fault is put into a copy of the dataset, of the data or of the notebook, and the notebook is run offline in a fresh
environment, as ``kk kernel test`` does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kaggle_kit import kernel
from kaggle_kit.competition import Setup, load_competition
from kaggle_kit.config import load_config
from kaggle_kit.kernel.bundle import read_bundle
from kaggle_kit.kernel.image import canonical, load_image
from kaggle_kit.kernel.sandbox.environment import make_environment
from kaggle_kit.kernel.sandbox.inputs import TestImage, visible_images, write_dataset, write_test_data
from kaggle_kit.kernel.sandbox.session import find_isolation, run_session
from kaggle_kit.workspace import open_workspace

MANY, SHORT = 30_000, 60.0
"""Images of the test set that is too large, and the seconds there are for them."""


@dataclass
class Scene:
    """The parts that a fault may be put into. ``start``: seconds until prediction begins when nothing is wrong."""

    dataset: Path
    notebook: Path
    images: list[TestImage]
    start: float
    variables: dict[str, str] = field(default_factory=dict)


def nothing(_scene: Scene) -> None:
    """As it should be."""


def missing_wheel(scene: Scene) -> None:
    """The wheel of ttach is not in the dataset."""
    next(scene.dataset.glob("ttach-*.whl")).unlink()


def missing_own_wheel(scene: Scene) -> None:
    """The wheel of kaggle_kit is not in the dataset."""
    next(scene.dataset.glob("kaggle_kit-*.whl")).unlink()


def damaged_weight(scene: Scene) -> None:
    """One bit of a model is turned."""
    path = sorted(scene.dataset.glob("*.safetensors"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def unusable_gpu(scene: Scene) -> None:
    """Two GPUs are listed, and no operation succeeds on them."""
    content = json.loads(scene.notebook.read_text(encoding="utf-8"))
    code = "import torch\ntorch.cuda.device_count = lambda: 2\nreal = torch.cuda.is_available\n"
    code += "import sys\ntorch.cuda.is_available = lambda: sys._getframe(1).f_code.co_name == 'usable_devices' or real()"
    cell = {"cell_type": "code", "id": "fault", "metadata": {}, "source": code, "execution_count": None, "outputs": []}
    content["cells"].insert(1, cell)
    scene.notebook.write_text(json.dumps(content), encoding="utf-8")


def unreadable_image(scene: Scene) -> None:
    """Of one test image only ten bytes are there."""
    scene.images[0] = replace(scene.images[0], origin=None)


def short_budget(scene: Scene) -> None:
    """Many more test images than there is time for."""
    copies = []
    for number in range(-(-MANY // len(scene.images))):
        for image in scene.images:
            path = Path(image.path)
            stem = f"{path.stem}x{number}"
            row_id = stem.join(image.id.rsplit(path.stem, 1))
            copies.append(replace(image, id=row_id, path=path.with_name(stem + path.suffix).as_posix()))
    scene.images = copies
    scene.variables["KK_BUDGET_SECONDS"] = str(scene.start + SHORT)


FAULTS: dict[str, Callable[[Scene], None]] = {
    "nothing wrong": nothing,
    "a wheel is missing": missing_wheel,
    "the own wheel is missing": missing_own_wheel,
    "a weight file is damaged": damaged_weight,
    "the GPUs are unusable": unusable_gpu,
    "an image is unreadable": unreadable_image,
    "the time budget is short": short_budget,
}


def begin_of(lines: Sequence[str]) -> float:
    """Seconds after which a session began to predict, from lines such as ``[   0:08] predicting …``."""
    line = next((line for line in lines if "] predicting" in line), "[0:00]")
    minutes, _, seconds = line.partition("]")[0].strip("[ ").rpartition(":")
    return 60 * float(minutes.rpartition(":")[2]) + float(seconds)


def _is_noise(line: str) -> bool:
    """What tqdm says where ipywidgets are missing, on two lines."""
    return "TqdmWarning" in line or "from .autonotebook" in line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--blend", default="blend")
    parser.add_argument(
        "--only", nargs="*", default=list(FAULTS), help="faults to try; nothing wrong is always run, to be timed"
    )
    arguments = parser.parse_args()
    workspace = open_workspace(arguments.workspace.resolve())
    config = load_config(workspace.config_path)
    competition = load_competition(workspace, config.competition)
    data_dir = (workspace.root / config.competition.data_dir).resolve()
    isolation = find_isolation()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        built = kernel.build_kernel(
            Setup(workspace, config, competition),
            root / "kernel",
            kernel.Address("somebody"),
            kernel.Content(blend=arguments.blend, force=True),
        )
        brought = [canonical(name.partition("-")[0]) for name in read_bundle(built.dataset).wheels]
        start = 0.0
        chosen = [name for name in FAULTS if name in ("nothing wrong", *arguments.only)]
        for number, (name, fault) in enumerate((name, FAULTS[name]) for name in chosen):
            place = root / str(number)
            images = visible_images(competition, data_dir, None)
            scene = Scene(place / "input" / "dataset", place / built.notebook.name, images, start)
            write_dataset(built.dataset, scene.dataset)
            shutil.copy(built.notebook, scene.notebook)
            fault(scene)
            write_test_data(place / "input" / "data", scene.images, config.competition, data_dir)
            environment = make_environment(place / "venv", load_image(), without=brought, block_network=not isolation.prefix)
            done = run_session(
                name,
                scene.notebook,
                place,
                environment=environment,
                isolation=isolation,
                timeout=3600,
                variables=scene.variables,
            )
            start = start or begin_of(done.lines)
            written = (done.working / "submission.csv").is_file()
            print(f"\n### {name}\n")
            print("\n".join(f"    {line.replace(str(place), '')}" for line in done.lines if not _is_noise(line)))
            if done.error:
                print(f"    {done.error.strip().splitlines()[-1]}")
            print(f"\n{'A submission was written' if written else 'No submission'}; {done.seconds:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
