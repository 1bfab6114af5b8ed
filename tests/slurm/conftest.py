"""One SLURM for all tests of this folder; each test finds and leaves its queue empty."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.light import Light
from tests.slurm.server import Site


@pytest.fixture(scope="session")
def one_site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def site(one_site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A SLURM of two idle nodes, in this process's environment too."""
    for name in [n for n in os.environ if n.startswith("DASK_")]:  # left by clusters of other tests
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PYTHONPATH"):
        monkeypatch.setenv(name, one_site.environment[name])
    yield one_site
    one_site.continue_controller()
    one_site.resume()
    one_site.cancel_all()


@pytest.fixture
def started(site: Site, tmp_path: Path) -> Iterator[Callable[..., Light]]:
    """Starts light runs, each in a folder of its own; none outlives the test."""
    begun: list[Light] = []

    def start(*keys: str, **sizes: float) -> Light:
        folder = tmp_path / f"{len(begun)}"
        folder.mkdir()
        begun.append(light := Light(site, folder, *keys, **sizes))
        light.start()
        return light

    yield start
    for light in begun:
        light.end()
