"""Speed, memory and graphs of the kernels and verbs, as classes for airspeed velocity (asv).

``time_*`` are timed, ``peakmem_*`` have their peak memory measured, and ``track_*`` return a
number to follow from commit to commit. A size that is too large to run has its graph built only.
"""

# ruff: noqa: ARG001, ARG002  asv hands the name of the size to every method

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask.array as da
import numpy as np
import xarray as xr

import ndtomo_dask as nd
from benchmarks import truth
from benchmarks.sizes import SIZES, Size
from ndtomo_dask.block_sizes import shard_of_projections
from ndtomo_dask.computing import computing_with
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.graphs import Batch
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.components import factors
from ndtomo_dask.kernels.fitting.least_squares import fit_peak
from ndtomo_dask.kernels.projectors import MODEL, load_projector

RUNNING = tuple(name for name, size in SIZES.items() if size.runs)


class Reconstruction:
    """Solvers on one block of channels."""

    params = RUNNING
    param_names = ("size",)
    sizes = SIZES

    def setup(self, name: str) -> None:
        size = self.sizes[name]
        theta = np.linspace(0, np.pi, size.angles, endpoint=False)
        channels = min(size.channels, 64)
        densities = truth.head_channels(channels)
        self.sinogram = (truth.head_sinogram(theta, size.size) @ densities).astype(np.float32)
        self.A = load_projector("cpu", ParallelGeometry.centered(theta, size.size), MODEL)
        self.volume = solvers.fbp(self.A, self.sinogram)  # compiles what is timed
        self.A(self.volume)

    def time_project(self, name: str) -> None:
        self.A(self.volume)

    def time_back_project(self, name: str) -> None:
        self.A.T(self.sinogram)

    def time_fbp(self, name: str) -> None:
        solvers.fbp(self.A, self.sinogram)

    def time_sirt(self, name: str) -> None:
        solvers.sirt(self.A, self.sinogram, iterations=2)

    def time_cgls(self, name: str) -> None:
        solvers.cgls(self.A, self.sinogram, iterations=2)

    def peakmem_fbp(self, name: str) -> None:
        solvers.fbp(self.A, self.sinogram)

    def track_error(self, name: str) -> float:
        channels = self.sinogram.shape[-1]
        size = self.sinogram.shape[1]
        image = truth.head_image(size) @ truth.head_channels(channels)
        return truth.relative_rmse(self.volume, image, truth.circle(size))


class Spectra:
    """Fits and factorizations of the spectra of one block of pixels."""

    params = RUNNING
    param_names = ("size",)
    sizes = SIZES

    def setup(self, name: str) -> None:
        size = self.sizes[name]
        pixels = min(size.size**2, 4096)
        self.peaks, self.axis, _ = truth.noisy_peaks(pixels, 64)
        self.mixed, _ = truth.mixed_spectra(pixels, size.channels, components=4)
        self.patterns = np.abs(self.mixed[:4])
        fit_peak(self.peaks[:10], self.axis)
        factors.component_weights(self.mixed[:10], self.patterns, nonnegative=True)

    def time_fit_peak(self, name: str) -> None:
        fit_peak(self.peaks, self.axis)

    def time_moments(self, name: str) -> None:
        factors.moments_partial(self.mixed)

    def time_nonnegative_weights(self, name: str) -> None:
        factors.component_weights(self.mixed, self.patterns, nonnegative=True)

    def peakmem_moments(self, name: str) -> None:
        factors.moments_partial(self.mixed)


class Storage:
    """One block, one shard: written and read back both ways."""

    params = RUNNING
    param_names = ("size",)
    sizes = SIZES

    def setup(self, name: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Path(self.folder.name) / "scan.zarr"
        self.scan = self.sizes[name].simulate(noise="none").load()
        nd.save(nd.reconstruct(self.scan)[["volume"]], self.store)

    def teardown(self, name: str) -> None:
        self.folder.cleanup()

    def time_save(self, name: str) -> None:
        nd.save(self.scan[["sinogram"]], self.store, overwrite=True)

    def time_read_images(self, name: str) -> None:
        nd.open_scan(self.store, layout="images").volume.compute()

    def time_read_spectra(self, name: str) -> None:
        nd.open_scan(self.store, layout="spectra").volume.compute()


class Graphs:
    """What the scheduler is given to do: it takes about 1 ms per task, and holds every byte.

    The stores have their metadata but no shard, so a terabyte takes no more than its graph.
    """

    params = tuple(SIZES)
    param_names = ("size",)
    sizes = SIZES

    def setup(self, name: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        with computing_with(_nothing):
            nd.save(empty_scan(self.sizes[name]), self.path / "raw.zarr")

    def teardown(self, name: str) -> None:
        self.folder.cleanup()

    def time_build(self, name: str) -> None:
        self._tasks(self._volume())

    def track_tasks(self, name: str) -> int:
        return len(self._graph())

    def track_graph_bytes(self, name: str) -> int:
        return sum(len(cloudpickle.dumps(task)) for task in self._graph().values())

    def _graph(self) -> dict[Any, Any]:
        return {
            key: task
            for batch in self._tasks(self._volume())
            for key, task in batch.tasks().items()
        }

    def _volume(self) -> xr.Dataset:
        ds = nd.open_scan(self.path / "raw.zarr", layout="images").pipe(nd.flat_field)
        return nd.reconstruct(ds)[["volume"]]

    def _tasks(self, ds: xr.Dataset) -> list[Batch]:
        """Collect what `save` would compute."""
        collected: list[Batch] = []

        def collect(batches: Iterable[Batch], total: int, description: str) -> Iterator[list[Any]]:
            collected.extend(batches)
            return iter(())

        with computing_with(collect):
            nd.save(ds, self.path / "result.zarr", overwrite=True)
        return collected


def _nothing(batches: Iterable[Batch], total: int, description: str) -> Iterator[list[Any]]:
    return iter(())


def empty_scan(size: Size) -> xr.Dataset:
    """Give a scan its labels and its blocks by projection, but no counts."""
    lead = {"z": size.slices} if size.slices else {}
    sizes = {**lead, "angle": size.angles, "translation": size.size, "channel": size.channels}
    blocks = shard_of_projections(sizes, 4)
    zeros = da.zeros(tuple(sizes.values()), dtype="float32", chunks=tuple(blocks.values()))
    angle = np.linspace(0, 180, size.angles, endpoint=False)
    coords = {
        "angle": ("angle", angle, {"units": "degree"}),
        "translation": ("translation", np.arange(size.size) * 0.02, {"units": "mm"}),
    }
    return xr.Dataset({"sinogram": (tuple(sizes), zeros, {"units": "count"})}, coords=coords)
