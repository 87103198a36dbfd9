"""What job scripts evaluate gives Dask's own programs the settings of `connect`."""

import json
import os
import subprocess
import sys

import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.runtime.environment import shell_exports
from ndtomo_dask.runtime.settings import DASK_SETTINGS, worker_environment

ASK = """
import dask, json, os, sys
import distributed
names, keys = json.loads(sys.argv[1])
print(json.dumps([{n: os.environ[n] for n in names}, {k: dask.config.get(k) for k in keys}]))
"""


def test_a_program_started_by_a_shell_has_the_settings_of_connect():
    expected = [worker_environment(3), DASK_SETTINGS]
    question = json.dumps([list(part) for part in expected])
    script = shell_exports(3) + '\nexec "$@"\n'
    bare = {name: value for name, value in os.environ.items() if name not in expected[0]}
    command = ["sh", "-c", script, "sh", sys.executable, "-c", ASK, question]
    answer = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == expected


def test_no_thread_is_no_number_of_threads():
    with pytest.raises(OptionError, match="--threads 0 is not a number of 1 or more"):
        shell_exports(0)
