"""Blocks and bytes of spectral compression, worked out before anything runs."""

from collections.abc import Mapping
from math import prod

from ndtomo_dask.block_sizes import GRAM_ROWS, READ_BUFFERS, blocks_of
from ndtomo_dask.plan import Plan

LARGEST_GRAM = 1024
"""Channels of the matrix whose eigenvalues are worked out; more are summed in groups."""
WINDOWS = 64
"""Windows of channels searched in one task: one pass of the projector."""


def mix(
    step: str, sizes: Mapping[str, int], block: Mapping[str, int], itemsize: int, *, over: str,
    into: int, allowed_mem: int,
) -> Plan:  # fmt: skip
    """Plan the mixing of a dimension into ``into`` others.

    A task holds a block and its part of the result, or three parts where two are added.

    >>> sizes = {"angle": 100, "translation": 100, "channel": 1000}
    >>> mix("mix", sizes, {**sizes, "channel": 100}, 4, over="channel", into=10,
    ...     allowed_mem=10**9).input_mem
    4000000
    """
    held = prod(block.values()) * itemsize
    part = held // block[over] * into
    made = Plan(step, tuple(block.items()), blocks_of(sizes, block), held,
                READ_BUFFERS + max(0, 2 * part - held), part, prod(sizes.values()) * itemsize, 0,
                allowed_mem)  # fmt: skip
    return made.checked()


def find_spectral_basis(
    sizes: Mapping[str, int], block: Mapping[str, int], itemsize: int, *, sample: int,
    allowed_mem: int,
) -> tuple[Plan, int]:  # fmt: skip
    """Plan the search for a basis, and say how many windows of channels one task can search.

    Of each window a task holds the sums, half as large copies, what filtering needs, and coarse
    images: five sinograms and an image, measured. Windows of several tasks share blocks, so three
    more of them wait. In another task ``sample`` spectra are multiplied.
    """
    window = (5 * sizes["angle"] + sizes["translation"]) * sizes["translation"] * itemsize
    held = prod(block.values()) * itemsize
    windows = max(1, min(WINDOWS, (allowed_mem - READ_BUFFERS - 4 * held) // window))
    channels = sizes["channel"]
    gram = (sample + 3 * GRAM_ROWS) * channels * itemsize + 32 * min(channels, LARGEST_GRAM) ** 2
    scratch = max(windows * window, gram - held) + 3 * held + READ_BUFFERS
    made = Plan("find_spectral_basis", tuple(block.items()), 4 * blocks_of(sizes, block), held,
                scratch, 0, 2 * prod(sizes.values()) * itemsize, 0, allowed_mem)  # fmt: skip
    return made.checked(), windows
