"""What can be wrong with a store, and how it is said: by the labels of blocks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ndtomo_dask.byte_sizes import human
from ndtomo_dask.io.blocks import block_name
from ndtomo_dask.io.repair import METADATA, stamp
from ndtomo_dask.io.shards import MISSING, ShardFiles

METADATA_WRONG = "metadata unreadable"
_SHOWN = 10
"""Missing blocks of a variable that are listed; a run that has just begun misses thousands."""


@dataclass(frozen=True)
class Damage:
    """One block, or one file of metadata, that is not as it was written."""

    variable: str
    """With the group it is in, such as "found/04_find_rotation_center/score"."""
    block: str
    """The block by its labels, such as "volume, channel 64 to 127"."""
    file: str
    """Its file, from the store on."""
    reason: str
    size: int | None = None
    mtime_ns: int | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the file is not there, as in a run that has not ended."""
        return self.reason == MISSING

    def __str__(self) -> str:
        return f"{self.block}: {self.reason} ({self.file})"


@dataclass(frozen=True)
class Verification:
    """What was read of a store, and what was found."""

    store: Path
    blocks: int
    variables: int
    nbytes: int
    damages: list[Damage] = field(default_factory=list)

    def __str__(self) -> str:
        missing = sum(damage.is_missing for damage in self.damages)
        said = (
            f"{self.store}: {self.blocks} blocks of {self.variables} variables read, "
            f"{human(self.nbytes)}; {len(self.damages) - missing} damaged, "
            f"{missing} missing."
        )
        return said + (" ndtomo-dask run RECIPE --resume repairs it." if self.damages else "")

    def lines(self) -> Iterator[str]:
        """Say what is damaged, and, of each variable, the first blocks that are missing."""
        missing: Counter[str] = Counter()
        for damage in self.damages:
            missing[damage.variable] += damage.is_missing
            if not damage.is_missing or missing[damage.variable] <= _SHOWN:
                yield str(damage)
        for variable, count in missing.items():
            if count > _SHOWN:
                yield f"{variable}: {count - _SHOWN} more missing"

    def record(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return asdict(self) | {"store": self.store.name}


def of_metadata(store: Path, folder: Path) -> Damage:
    """Describe metadata that are not there or cannot be read."""
    name = folder.relative_to(store).as_posix()
    file = folder / METADATA
    reason = METADATA_WRONG if file.exists() else MISSING
    where = "the store" if name == "." else name
    within = file.relative_to(store).as_posix()
    return Damage(name, f"metadata of {where}", within, reason, **stamp(file))


def of_variable(store: Path, folder: Path) -> Damage:
    """Describe a variable of which nothing is there."""
    name = folder.relative_to(store).as_posix()
    return Damage(name, name, f"{name}/{METADATA}", MISSING)


def of_blocks(store: Path, folder: Path, faults: dict[tuple[int, ...], str]) -> list[Damage]:
    """Describe blocks of one array, each by its place and what is wrong with it."""
    files, array = ShardFiles(folder), _hollow(store, folder)
    return [
        Damage(
            variable=str(array.name),
            block=block_name(array, place),
            file=files.file(place).relative_to(store).as_posix(),
            reason=reason,
            **stamp(files.file(place)),
        )
        for place, reason in faults.items()
    ]


def _hollow(store: Path, folder: Path) -> xr.DataArray:
    """Return a stored array's name, blocks and axes, without its values."""
    stored = zarr.open_array(folder, mode="r", zarr_format=3)
    named = getattr(stored.metadata, "dimension_names", None)
    dims = [str(dim) for dim in named or range(stored.ndim)]
    axes = {
        dim: axis
        for dim, size in zip(dims, stored.shape, strict=True)
        if (axis := _axis(folder.parent / dim, dim)) is not None and axis.sizes == {dim: size}
    }
    zeros = da.zeros(stored.shape, chunks=stored.shards or stored.chunks)
    return xr.DataArray(zeros, axes, dims, folder.relative_to(store).as_posix())


def _axis(folder: Path, dim: str) -> xr.DataArray | None:
    """Labels of a dimension, if they are numbers and can be read."""
    try:
        stored = zarr.open_array(folder, mode="r")
        axis = xr.DataArray(np.asarray(stored[...]), dims=dim, attrs=dict(stored.attrs))
    except Exception:  # whatever is wrong with them is said elsewhere
        return None
    return axis if axis.dtype.kind in "fiu" else None
