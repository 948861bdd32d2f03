"""Run the notebooks of this folder from top to bottom and save them with their outputs: ``make notebooks``.

Each runs in a temporary folder of its own, so that nothing it prints depends on where the repository lies.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.:/])(/(?!kaggle/)\w[\w.-]*/[\w.-]+|[A-Z]:\\\w)")
"""An absolute path, other than those that every Kaggle notebook knows."""
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
_QUIET = "ignore:IProgress not found"  # tqdm misses widgets, and names the file that it says so from
_CELL_SECONDS = 900


def run(path: Path, folder: Path, **parameters: Any) -> nbformat.NotebookNode:
    """Execute a notebook in ``folder``, with other values for names of its cell tagged ``parameters``.

    Returns:
        The notebook with its outputs, in which paths are relative to ``folder``; the file is left as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
        ValueError: the parameters' cell does not set one of the names.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = _with_values(cell.source, parameters)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=_CELL_SECONDS,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    modules = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])  # as if it were run where it lies
    client.execute(env={**os.environ, "PYTHONPATH": modules, "PYTHONWARNINGS": _QUIET})
    for output in _outputs(notebook):
        if output.output_type == "stream":
            output.text = output.text.replace(f"{folder.resolve()}/", "")
        elif "image/png" in output.get("data", {}):
            output.data.pop("image/jpeg", None)  # IPython gives every picture twice
            output.data["image/png"] = _smaller(output.data["image/png"])
    notebook.metadata = {"kernelspec": _KERNELSPEC, "language_info": {"name": "python"}}
    return notebook


def _smaller(picture: str) -> str:
    """Return a PNG, in base64, with at most 256 colours: a third of the bytes where it shows photographs."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as found:
        few = found.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    few.save(stream, format="png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def _with_values(source: str, parameters: dict[str, Any]) -> str:
    for name, value in parameters.items():
        source, count = re.subn(rf"^{name} = [^#\n]*", f"{name} = {value!r}  ", source, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"expected one line `{name} = …` in the parameters' cell, found {count}")
    return source


def texts(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """All text that the cells put out."""
    for output in _outputs(notebook):
        yield output.get("text", "")
        yield from (data for kind, data in output.get("data", {}).items() if kind.startswith("text/"))


def _outputs(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    return (output for cell in notebook.cells for output in cell.get("outputs", ()))


def machine_paths(notebook: nbformat.NotebookNode) -> list[str]:
    """Absolute paths in the outputs."""
    return [match[0] for text in texts(notebook) for match in MACHINE_PATH.finditer(re.sub(r"</\w+", "", text))]


def main(names: Sequence[str]) -> int:
    """Run and save the notebooks whose name begins with one of ``names``, by default all."""
    for path in NOTEBOOKS:
        if names and not path.name.startswith(tuple(names)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(path, Path(folder))
        if found := machine_paths(notebook):
            print(f"{path.name} is not saved: its outputs hold paths of this machine: {found}")
            return 1
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
