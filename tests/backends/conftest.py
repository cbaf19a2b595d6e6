"""The storage of all cases on the file system, and backends that read one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.cases import write_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a storage with all cases: for tests that only read."""
    directory = tmp_path_factory.mktemp("storage")
    write_tree(directory)
    return directory
