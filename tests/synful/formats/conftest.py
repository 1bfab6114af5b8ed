"""Partners for the tests of formats, as a table and as a data set."""

import pytest

from tests.synful.formats.examples import as_data_set, partners


@pytest.fixture(scope="session")
def rows():
    """A table of partners with segments."""
    return partners(mapped=True)


@pytest.fixture(scope="session")
def data_set(rows, tmp_path_factory):
    """The same rows in files."""
    return as_data_set(rows, tmp_path_factory.mktemp("formats") / "partners.parquet")
