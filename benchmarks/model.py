"""The model of scaling: for each stage, the longest of the times that its limits impose."""

import math
from dataclasses import dataclass

from benchmarks.out_of_core import COMPONENTS
from benchmarks.rates import RANK, Rates
from benchmarks.sizes import Size
from ndtomo_dask import machine, plan

ITEM = 4
"""Bytes of a sample."""


@dataclass(frozen=True)
class Center:
    """A computing center, as the model sees it."""

    cores: int
    """Workers of a node, one core each."""
    node_io: float
    """Bytes per second that a node reads or writes."""
    shared_io: float
    """The same of all nodes together."""
    task: float
    """Seconds of the scheduler for a task."""
    memory: int = 4 * plan.GB
    """Limit of a worker."""
    sampled: int = 0
    """Slices from which components are found; 0 for all."""


@dataclass(frozen=True)
class Stage:
    """What a stage does in all."""

    name: str
    tasks: int
    core_seconds: float
    stored: float
    """Bytes read and written, as they are stored."""
    client: float = 0.0
    """Seconds that the client works alone."""


@dataclass(frozen=True)
class Prediction:
    """How long a stage takes, and what limits it."""

    stage: str
    seconds: float
    limit: str


def stages_of(size: Size, rates: Rates, center: Center) -> list[Stage]:
    """Say what the stages of the main job do with a scan."""
    slices, channels = max(1, size.slices), size.channels
    samples, pixels = slices * size.angles * size.size * channels, slices * size.size**2
    allowed = machine.task_mem(center.memory)
    extent = {"angle": size.angles, "translation": size.size, "channel": channels}
    block = plan.image_block(extent, ITEM, allowed_mem=allowed)
    grid = {"y": size.size, "x": size.size, "channel": channels}
    tile = {"y": min(plan.TILE, size.size), "x": min(plan.TILE, size.size)}
    pieces = plan.spectra_block(grid, ITEM, allowed_mem=allowed, tile=tile)
    images, spectra = (slices * plan.blocks_of(*each) for each in ((extent, block), (grid, pieces)))

    raw, volume = samples * ITEM, pixels * channels * ITEM
    read_raw, read_volume = raw * rates.read_raw, volume * rates.read_spectra
    stored_raw, stored_volume = raw * rates.raw_ratio, volume * rates.volume_ratio
    part = min(1.0, center.sampled / slices) if center.sampled else 1.0
    moments = part * (read_volume + pixels * channels**2 * rates.moments)
    project = part * (read_volume + pixels * channels * RANK * rates.project)
    some = math.ceil(part * spectra)

    def passes(count: int) -> float:
        return read_raw + count * samples * rates.elementwise

    fbp = pixels * size.angles * channels * rates.fbp + volume * rates.write
    maps = pixels * channels * COMPONENTS * rates.maps
    return [
        Stage("find air", images, passes(0), stored_raw),
        Stage("find flux", images, passes(2), stored_raw),
        Stage("find rotation center", images, passes(3), stored_raw),
        Stage("correct, reconstruct, save", images, passes(2) + fbp, stored_raw + stored_volume),
        Stage("find PCA components", some, moments, part * stored_volume),
        Stage(
            "find NMF components",
            2 * some,
            moments + project,
            2 * part * stored_volume,
            part * pixels * rates.nmf,
        ),
        Stage("map components, save", spectra, read_volume + maps, stored_volume),
    ]


def predict(size: Size, rates: Rates, center: Center, nodes: int) -> list[Prediction]:
    """Work out the time of each stage on so many nodes."""
    return [_predicted(stage, center, nodes) for stage in stages_of(size, rates, center)]


def _predicted(stage: Stage, center: Center, nodes: int) -> Prediction:
    workers = nodes * center.cores
    # The last round of blocks keeps all waiting, however few of them it has.
    rounds = math.ceil(stage.tasks / workers)
    times = {
        "cores": stage.core_seconds / stage.tasks * rounds,
        "node I/O": stage.stored / nodes / center.node_io,
        "shared I/O": stage.stored / center.shared_io,
        "scheduler": stage.tasks * center.task,
    }
    limit, longest = max(times.items(), key=lambda item: item[1])
    if stage.client > longest:
        limit = "client"
    return Prediction(stage.name, longest + stage.client, limit)


def limits(predictions: list[Prediction]) -> str:
    """Name the limit under which most of the time is spent."""
    spent: dict[str, float] = {}
    for one in predictions:
        spent[one.limit] = spent.get(one.limit, 0.0) + one.seconds
    return max(spent, key=lambda limit: spent[limit])
