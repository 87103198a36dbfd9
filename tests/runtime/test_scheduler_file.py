"""Joining a scheduler by the file that it wrote, as job scripts do."""

import json

import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.runtime import connect, describe


def test_a_scheduler_is_joined_by_the_file_that_it_wrote(client, tmp_path):
    path = tmp_path / "scheduler.json"
    client.write_scheduler_file(str(path))
    with connect(path) as joined:
        assert joined.scheduler.address == client.scheduler.address
        assert describe(joined)["workers"] == 2


@pytest.mark.parametrize("content", [None, "", "{}", "[]", json.dumps({"workers": {}})])
def test_another_file_is_refused_and_the_command_is_named(content, tmp_path):
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OptionError, match=f"dask scheduler --scheduler-file {path}"):
        connect(path)
