"""What holds for every test: nothing is read from, or left in, the caches of whoever runs them."""

from collections.abc import Iterator

import pytest

CACHES = ("XDG_CACHE_HOME", "HF_HOME")
OF_THE_USER = ("HF_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN_PATH")


@pytest.fixture(scope="session", autouse=True)
def _caches_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in CACHES:
            patch.setenv(variable, str(tmp_path_factory.mktemp(variable.lower())))
        for variable in OF_THE_USER:
            patch.delenv(variable, raising=False)
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield
