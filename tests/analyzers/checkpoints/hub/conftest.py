"""Every test here talks to a Hub on the loopback interface, with a cache of its own and no one's token."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from tests.support.hub import LoopbackHub


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of huggingface_hub, empty."""
    folder = tmp_path / "hf" / "hub"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _one_client() -> Iterator[None]:
    """The connections are shared by the tests of a module, for a client takes long to make."""
    yield
    close_session()


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A Hub that knows no model yet."""
    with LoopbackHub() as running:
        yield running
