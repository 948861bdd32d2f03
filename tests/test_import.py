"""What ``import kaggle_kit`` does to its process, and what it leaves to others."""

import os
import subprocess
import sys

import pytest

SHOW = "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"


def imported(**variables: str) -> list[str]:
    """What a fresh process has in its environment after the import, and whether it has loaded PyTorch."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = f"import os, sys, kaggle_kit; {SHOW}"
    done = subprocess.run([sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_threads_do_not_spin_for_long_and_pytorch_is_not_loaded_before_that_is_set():
    count, policy, loaded = imported()
    assert 0 < int(count) < 300_000, "the default of GNU's OpenMP"
    assert (policy, loaded) == ("None", "False")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"GOMP_SPINCOUNT": "17"}, ["17", "None", "False"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["None", "ACTIVE", "False"]),
    ],
)
def test_what_the_user_has_chosen_stays(chosen, expected):
    assert imported(**chosen) == expected


def test_importing_it_is_light():
    """``kk --help`` must answer at once, and the variable must be there before PyTorch reads it."""
    heavy = "import sys, kaggle_kit.cli; print(sorted({'torch', 'timm', 'pandas', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.strip() == "[]"
