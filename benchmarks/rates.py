"""Rates of the kernels, of reading and of writing on this machine, measured by plain processes.

All processes work at once, so that what they share (memory, caches) is in the rates.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import ndtomo_dask as nd
from benchmarks.bare import Processes, Work, processes, work_of, write_hollow
from benchmarks.out_of_core import COMPONENTS
from benchmarks.sizes import Size
from ndtomo_dask.components.decompose import weights_block
from ndtomo_dask.components.moments import moments_block, project_block
from ndtomo_dask.correct.flux import divide_block
from ndtomo_dask.kernels.components import factors, nmf
from ndtomo_dask.kernels.reconstruction import reconstruct_block
from ndtomo_dask.scan_geometry import geometry_of
from ndtomo_dask.schema import step_of

RANK = max(2 * COMPONENTS, COMPONENTS + 8)
"""Numbers to which NMF compresses a spectrum."""


@dataclass(frozen=True)
class Rates:
    """Seconds per unit, of one core while all others work too."""

    read_raw: float
    """Per decoded byte, by channels."""
    read_spectra: float
    """Per decoded byte, by tiles of pixels."""
    write: float
    """Per decoded byte of a volume."""
    elementwise: float
    """Per sample of a sinogram and pass over it."""
    fbp: float
    """Per pixel, angle and channel."""
    moments: float
    """Per pixel and channel squared."""
    project: float
    """Per pixel, channel and rank."""
    maps: float
    """Per pixel, channel and component."""
    nmf: float
    """Per pixel and pass over what is kept of it."""
    raw_ratio: float
    """Stored bytes of a decoded byte of counts, and of the volume."""
    volume_ratio: float


def measure_rates(size: Size, workers: int, folder: Path | None = None) -> Rates:
    """Measure all rates on a scan of this size."""
    with (
        tempfile.TemporaryDirectory(prefix="rates_", dir=folder) as name,
        processes(workers) as bare,
    ):
        path = Path(name)
        nd.save(size.simulate(counts=200.0)[["sinogram"]], path / "raw.zarr")
        return Rates(**_of_images(path, bare), **_of_spectra(path, bare), **_of_nmf())


def _of_images(path: Path, bare: Processes) -> dict[str, float]:
    raw = path / "raw.zarr"
    ds = nd.open_scan(raw, layout="images")
    result = nd.reconstruct(ds, backend="cpu")[["volume"]]
    write_hollow(result, path / "volume.zarr")
    samples, pixels = ds.sinogram.size, prod(result.volume.shape[:-1])
    options: dict[str, Any] = {"geometry": geometry_of(ds, verb="reconstruct")}
    options |= {"step": step_of(ds, "translation"), "method": "fbp", "backend": "cpu"}
    options |= {"options": {}}
    volume = (result.volume, path / "volume.zarr")
    scale = {"scale": np.ones(ds.sizes["angle"])}
    elementwise = _second(bare, work_of(ds.sinogram, raw, divide_block, scale))
    made = _second(bare, work_of(ds.sinogram, raw, reconstruct_block, options, *volume))
    units = pixels * ds.sizes["angle"] * ds.sizes["channel"]
    return {
        "elementwise": elementwise["kernel"] / samples,
        "read_raw": made["read"] / ds.sinogram.nbytes,
        "fbp": made["kernel"] / units,
        "write": made["write"] / result.volume.nbytes,
        "raw_ratio": _stored(raw / "sinogram") / ds.sinogram.nbytes,
        "volume_ratio": _stored(path / "volume.zarr/volume") / result.volume.nbytes,
    }


def _of_spectra(path: Path, bare: Processes) -> dict[str, float]:
    store = path / "volume.zarr"
    volume = nd.open_scan(store, layout="spectra").volume
    channels, pixels = volume.shape[-1], prod(volume.shape[:-1])
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, RANK)))[0]
    spectra = np.abs(vectors[:, :COMPONENTS].T).copy()
    kernels: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
        "moments": (moments_block, {"shift": np.zeros(channels)}, channels**2),
        "project": (project_block, {"vectors": vectors}, channels * RANK),
        "maps": (weights_block, {"spectra": spectra, "mean": None}, channels * COMPONENTS),
    }
    found = {}
    for name, (kernel, options, units) in kernels.items():
        made = _second(bare, _unframed(work_of(volume, store, kernel, options), kernel, options))
        found[name] = made["kernel"] / units / pixels
    return {**found, "read_spectra": made["read"] / volume.nbytes}


def _unframed(work: Work, kernel: Callable[..., Any], options: dict[str, Any]) -> Work:
    """Hand a kernel whole blocks: moments take all slices of one at once."""
    return Work(work.source, work.regions, partial(kernel, **options))


def _second(bare: Processes, work: Work) -> dict[str, float]:
    """Return core seconds of the parts of the work, when all is compiled."""
    bare.run(work)
    bare.run(work)
    return {part: bare.sum(part) for part in ("read", "kernel", "write")}


def _of_nmf() -> dict[str, float]:
    """Time the passes of NMF over compressed spectra."""
    rng = np.random.default_rng(0)
    channels, pixels = 64, 20_000
    spectra = (rng.random((pixels, COMPONENTS)) @ rng.random((COMPONENTS, channels))).astype("f4")
    spectra += rng.normal(0, 0.1, spectra.shape).astype("f4")
    shift = np.zeros(channels)
    basis = nmf.nmf_basis(moments_block(spectra, shift=shift), shift, COMPONENTS)
    rows = factors.project_spectra(spectra, basis.vectors)
    start = time.perf_counter()
    made = nmf.nmf_from_projection(rows, basis, COMPONENTS, start="pure", iterations=200)
    return {"nmf": (time.perf_counter() - start) / pixels / made.iterations}


def _stored(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
