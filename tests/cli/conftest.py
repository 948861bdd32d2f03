"""Running ``kk`` as a user does."""

from pathlib import Path

import pytest

from kaggle_kit import cli


@pytest.fixture
def kk(monkeypatch, capsys):
    """Run ``kk`` in a folder; returns exit code, output and error output."""

    def run(*arguments: str, folder: Path = Path()) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
