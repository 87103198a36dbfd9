"""The model of scaling: for each stage, the longest of the times that its limits impose."""

import math
from dataclasses import dataclass

from benchmarks.out_of_core import COMPONENTS
from benchmarks.rates import RANK, Rates
from benchmarks.sizes import Size
from ndtomo_dask import held, machine
from ndtomo_dask.block_sizes import TILE, blocks_of, image_block, spectra_block
from ndtomo_dask.byte_sizes import GB

ITEM = 4
"""Bytes of a sample."""
NMF = "find NMF components"
NMF_PASSES = 200
"""Iterations of NMF, at most: each reads all that is held of the spectra once."""


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
    round_trip: float = 0.02
    """Seconds of the client between two passes over what workers hold."""
    memory: int = 4 * GB
    """Limit of a worker."""
    sampled: int = 0
    """Slices from which components are found; 0 for all."""


@dataclass(frozen=True)
class Stage:
    """What a stage does in all. Parts that follow one another share its name."""

    name: str
    tasks: int
    """0 where the client does it alone."""
    core_seconds: float
    stored: float
    """Bytes read and written, as they are stored."""
    repeats: int = 1
    """How often all this is done, each time after the one before."""


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
    block = image_block(extent, ITEM, allowed_mem=allowed)
    grid = {"y": size.size, "x": size.size, "channel": channels}
    tile = {"y": min(TILE, size.size), "x": min(TILE, size.size)}
    pieces = spectra_block(grid, ITEM, allowed_mem=allowed, tile=tile)
    images, spectra = (slices * blocks_of(*each) for each in ((extent, block), (grid, pieces)))

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
        Stage(NMF, 2 * some, moments + project, 2 * part * stored_volume),
        iterations(part * pixels, rates),
        Stage("map components, save", spectra, read_volume + maps, stored_volume),
    ]


def iterations(pixels: float, rates: Rates) -> Stage:
    """Say what NMF does with the few numbers per pixel that it keeps."""
    kept = pixels * RANK * ITEM
    group = min(max(held.LEAST_GROUP, kept / held.GROUPS), held.MOST_GROUP)
    groups = math.ceil(kept / group) if kept > held.HERE else 0
    return Stage(NMF, groups, pixels * rates.nmf, 0.0, NMF_PASSES)


def predict(size: Size, rates: Rates, center: Center, nodes: int) -> list[Prediction]:
    """Work out the time of each stage on so many nodes."""
    found: dict[str, Prediction] = {}
    for stage in stages_of(size, rates, center):
        part = _predicted(stage, center, nodes)
        before = found.get(stage.name, Prediction(stage.name, 0.0, part.limit))
        limit = part.limit if part.seconds > before.seconds else before.limit
        found[stage.name] = Prediction(stage.name, before.seconds + part.seconds, limit)
    return list(found.values())


def _predicted(stage: Stage, center: Center, nodes: int) -> Prediction:
    if not stage.tasks:
        return Prediction(stage.name, stage.repeats * stage.core_seconds, "client")
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
    waits = center.round_trip * (stage.repeats - 1)
    return Prediction(stage.name, stage.repeats * longest + waits, limit)


def limits(predictions: list[Prediction]) -> str:
    """Name the limit under which most of the time is spent."""
    spent: dict[str, float] = {}
    for one in predictions:
        spent[one.limit] = spent.get(one.limit, 0.0) + one.seconds
    return max(spent, key=lambda limit: spent[limit])
