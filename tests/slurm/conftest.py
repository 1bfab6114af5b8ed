"""One SLURM for all tests of this folder; each test finds and leaves its queue empty."""

from collections.abc import Iterator

import pytest

from tests.slurm.server import Site


@pytest.fixture(scope="session")
def one_site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def site(one_site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A SLURM of two idle nodes, in this process's environment too."""
    for name in ("SLURM_CONF", "PYTHONPATH"):
        monkeypatch.setenv(name, one_site.environment[name])
    yield one_site
    one_site.continue_controller()
    one_site.resume()
    one_site.cancel_all()
