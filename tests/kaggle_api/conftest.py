from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_kaggle import SECRET, USER, FakeKaggle, FakeTime, Timed

from kaggle_kit.kaggle_api import Patience
from kaggle_kit.kaggle_api.session import import_client


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without credentials, and no variables of the client."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_")] + ["XDG_CONFIG_HOME"]:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    (folder / ".kaggle").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the client keeps its upload links there
    return folder


@pytest.fixture
def unimported() -> Iterator[None]:
    """The client as if nobody had imported it, and afterwards as it was."""
    before = {name: module for name, module in sys.modules.items() if _is_client(name)}
    for name in before:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if _is_client(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def _is_client(module: str) -> bool:
    return module.partition(".")[0] in ("kaggle", "kagglesdk") or module == "kaggle_kit.kaggle_api.client"


@pytest.fixture
def kaggle(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    """The server, with the official client pointed at it and signed in with a key."""
    lacking = [name for name in ("kaggle", "kagglesdk", "six") if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"the official client is an extra, and {lacking} is not installed: pip install 'kaggle-kit[kaggle]'")
    import_client()
    from kagglesdk import kaggle_env
    from kagglesdk.kaggle_env import KaggleEnv

    monkeypatch.setenv("KAGGLE_USERNAME", USER)
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = FakeKaggle()
    for env in KaggleEnv:  # nothing may leave this machine
        monkeypatch.setitem(kaggle_env._env_to_endpoint, env, server.url)
    yield server
    server.close()
    assert not server.violations


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Patience that takes no time, urllib3's and the client's too; a hanging server is waited for, a third of a second."""
    clock = FakeTime()
    stand_in = SimpleNamespace(**{**vars(time), "sleep": clock.sleep})
    for name in ("urllib3.util.retry", "kaggle.api.kaggle_api_extended"):
        if name in sys.modules:
            monkeypatch.setattr(sys.modules[name], "time", stand_in)
    return Timed(clock, Patience(attempts=4, connect=2.0, read=0.3, sleep=clock.sleep, clock=clock.clock))
