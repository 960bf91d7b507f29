"""What all tests with the real client need."""

from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client tells the Hub it was imported for nothing, and keeps no connection to a closed one."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    yield
    close_session()
