"""What holds for every test: nothing is read from, or left in, the caches of whoever runs them."""

import os
from collections.abc import Iterator

import pytest

CACHES = ("XDG_CACHE_HOME", "HF_HOME")
OF_THE_USER = ("HF_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "CI")
OF_THE_TESTS = ("JAYNES_EXPECT_", "JAYNES_SARIF_MULTITOOL", "JAYNES_KERNEL")


@pytest.fixture(scope="session", autouse=True)
def _caches_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in CACHES:
            patch.setenv(variable, str(tmp_path_factory.mktemp(variable.lower())))
        ours = [each for each in os.environ if each.startswith("JAYNES_") and not each.startswith(OF_THE_TESTS)]
        for variable in (*OF_THE_USER, *ours):
            patch.delenv(variable, raising=False)
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield
