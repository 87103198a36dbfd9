"""A task of each correction holds what its plan says, and the plan is not much more."""

import json
import os
import subprocess
import sys

import pytest

from tests.measure_corrections import corrections
from tests.test_plan import MEMORY_ENVIRONMENT

PADDING = 3.0
"""How far a plan may exceed what a task takes: copies that only some of the corrections make."""
SLACK = 3 * 10**6
"""Bytes that have nothing to do with the block: code and tables."""


@pytest.fixture(scope="module", params=["floats", "counts"])
def measured(request):
    """Bytes measured and planned, by verb; in a fresh process, with the allocator of a worker."""
    command = [sys.executable, "-m", "tests.measure_corrections", request.param]
    environment = os.environ | MEMORY_ENVIRONMENT
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to measure peak memory")
@pytest.mark.parametrize("verb", corrections())
def test_a_task_holds_what_its_plan_says(measured, verb):
    held, planned = measured[verb]
    assert held <= planned + SLACK, f"{held} bytes held, {planned} planned"
    assert planned <= PADDING * held, f"{held} bytes held, {planned} planned"
