"""Peak memory of one task of each kind, against its plan. Run by `test_plan`: step, tmp folder."""

import sys
from pathlib import Path

import dask
import numpy as np
import xarray as xr

from ndtomo_dask import (
    compress_channels,
    find_spectral_basis,
    plan,
    plan_mixing,
    project,
    reconstruct,
)
from ndtomo_dask.apply import reduce_kernel
from ndtomo_dask.block_sizes import shard_of_projections, spectra_block
from ndtomo_dask.components.moments import moments_block
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.io.layout import open_store
from ndtomo_dask.io.store import save
from ndtomo_dask.kernels.components.factors import moments_combine
from ndtomo_dask.kernels.fitting.peak_model import PeakModel
from ndtomo_dask.kernels.fitting.window_fit import WindowModel, columns_for, fit_windows
from ndtomo_dask.kernels.reconstruction import METHODS, reconstruct_block
from ndtomo_dask.reconstruction.eigenchannels import SAMPLE_BLOCK

SCAN = {"angle": 160, "translation": 200, "channel": 1024}
VOLUME = {"y": 192, "x": 192, "channel": 1024}
ALLOWED = 2 * 10**9
METHOD_OPTIONS = {
    method: ({"iterations": 2} if made.iterative else {})
    | ({"nonnegative": True} if "nonnegative" in made.options else {})
    | ({"regularization": 1.0} if "regularization" in made.options else {})
    for method, made in METHODS.items()
}
"""The options that take the most memory."""


def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measured(work):
    """Rise of the resident memory while ``work`` runs, at its highest."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = work()
    assert result is not False
    return status("VmHWM") - before


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def reconstruct_step(method, folder):
    made = plan.reconstruct(SCAN, 4, method=method, allowed_mem=ALLOWED)
    angles = np.linspace(0, np.pi, SCAN["angle"], endpoint=False)
    geometry = ParallelGeometry.centered(angles, SCAN["translation"])
    options = {"geometry": geometry, "step": 0.1, "method": method, "backend": "cpu",
               "options": METHOD_OPTIONS[method]}  # fmt: skip
    reconstruct_block(np.abs(noise(160, 200, 2)), **options)
    shape = tuple(dict(made.block).values())
    return measured(lambda: reconstruct_block(np.abs(noise(*shape)), **options)), made


def moments_step(folder):
    block = spectra_block(VOLUME, 4, allowed_mem=ALLOWED, tile={"y": 64, "x": 64})
    made = plan.find_components(VOLUME, 4, components=5, passes=1, allowed_mem=ALLOWED, block=block)
    shift = np.zeros(VOLUME["channel"])
    moments_block(noise(2, 2, VOLUME["channel"]), shift=shift)
    return measured(lambda: moments_block(noise(*block.values()), shift=shift)), made


def merge_step(folder):
    """Merge the moments of two blocks, read in order, one task at a time."""
    sizes = {"y": 16, "x": 8, "channel": 2048}
    block = {**sizes, "y": 8}
    made = plan.find_components(sizes, 4, components=5, passes=1, allowed_mem=ALLOWED, block=block)
    array = xr.DataArray(noise(*sizes.values()), dims=tuple(sizes)).chunk(y=8)
    total = {"description": "moments", "shift": np.zeros(2048)}
    moments_block(noise(2, 2, 2048), shift=total["shift"])
    return measured(lambda: reduce_kernel(array, moments_block, moments_combine, **total)), made


def fit_step(folder):
    block = spectra_block(VOLUME, 4, allowed_mem=ALLOWED, tile={"y": 64, "x": 64})
    columns = columns_for(["pseudo_voigt"] * 3, 2, 2)
    made = plan.per_pixel(
        "fit_peaks", VOLUME, 4, channels=101, values=columns.count, allowed_mem=ALLOWED, block=block
    )
    pair = PeakModel({"a": "pseudo_voigt", "b": "pseudo_voigt"})
    windows = [WindowModel(100, 201, pair, (0, 1)),
               WindowModel(500, 601, PeakModel({"c": "pseudo_voigt"}), (2,))]  # fmt: skip
    options = {"axis": np.arange(1024.0), "windows": windows, "columns": columns}
    fit_windows(noise(2, 2, 1024), **options)
    return measured(lambda: fit_windows(noise(*block.values()), **options) is not None), made


def stored_scan(folder, sizes):
    coords = {"angle": ("angle", np.linspace(0, 180, sizes["angle"], endpoint=False)),
              "q": ("channel", np.linspace(1, 5, sizes["channel"]))}  # fmt: skip
    data = np.random.default_rng(0).poisson(20, tuple(sizes.values())).astype("float32")
    ds = xr.Dataset({"sinogram": (tuple(sizes), data)}, coords=coords)
    save(ds.chunk(shard_of_projections(sizes, 4)), folder / "scan.zarr")


def save_step(method, folder):
    stored_scan(folder, SCAN)
    ds = open_store(folder / "scan.zarr", allowed_mem=ALLOWED)
    few = reconstruct(ds.isel(channel=slice(2)), method=method, **METHOD_OPTIONS[method])
    save(few[["volume"]], folder / "w.zarr")
    block = stored_block(ds.sinogram)
    made = plan.reconstruct(SCAN, 4, method=method, allowed_mem=ALLOWED, block=block)
    volume = reconstruct(ds, method=method, **METHOD_OPTIONS[method])[["volume"]]
    return measured(lambda: save(volume, folder / "v.zarr")), made


def save_projection_step(folder):
    angle = np.linspace(0, 180, SCAN["angle"], endpoint=False)
    sizes = {"y": 200, "x": 200, "channel": SCAN["channel"]}
    volume = xr.DataArray(noise(*sizes.values()), dims=tuple(sizes))
    coords = {"q": ("channel", np.linspace(1, 5, SCAN["channel"])), "angle": angle,
              **{dim: np.arange(200) - 99.5 for dim in ("y", "x", "translation")}}  # fmt: skip
    save(xr.Dataset({"volume": volume}, coords).chunk(channel=64), folder / "volume.zarr")
    ds = open_store(folder / "volume.zarr", allowed_mem=ALLOWED)
    save(project(ds.isel(channel=slice(2)))[["projected_sinogram"]], folder / "w.zarr")
    rays = {"angle": SCAN["angle"], "translation": 200}
    block = stored_block(ds.volume)
    made = plan.project(sizes, rays, 4, allowed_mem=ALLOWED, block=block)
    projected = project(ds)[["projected_sinogram"]]
    return measured(lambda: save(projected, folder / "p.zarr")), made


def basis_step(folder):
    stored_scan(folder, SCAN)
    ds = open_store(folder / "scan.zarr", allowed_mem=ALLOWED)
    find_spectral_basis(ds.isel(channel=slice(40)), rank=2)
    made, _ = plan_mixing.find_spectral_basis(
        SCAN, stored_block(ds.sinogram), 4, sample=SAMPLE_BLOCK, allowed_mem=ALLOWED
    )
    return measured(lambda: find_spectral_basis(ds)), made


def mix_step(folder):
    stored_scan(folder, SCAN)
    ds = open_store(folder / "scan.zarr", allowed_mem=ALLOWED)
    basis = find_spectral_basis(ds, rank=20, threshold=float("inf"))
    made = plan_mixing.mix(
        "mix", SCAN, stored_block(ds.sinogram), 4, over="channel", into=20, allowed_mem=ALLOWED
    )
    mixed = compress_channels(ds, basis).spectral_sinogram
    compress_channels(ds.isel(angle=slice(2)), basis).spectral_sinogram.compute()
    return measured(lambda: mixed.compute() is not None), made


def stored_block(array):
    return dict(zip(array.dims, array.data.chunksize, strict=True))


STEPS = {
    **{method: (reconstruct_step, method) for method in METHODS},
    "moments": (moments_step,),
    "merge": (merge_step,),
    "fit": (fit_step,),
    "basis": (basis_step,),
    "mix": (mix_step,),
    "save fbp": (save_step, "fbp"),
    "save sirt": (save_step, "sirt"),
    "save project": (save_projection_step,),
}

if __name__ == "__main__":
    step, *options = STEPS[sys.argv[1]]
    with dask.config.set(scheduler="synchronous"):
        peak, made = step(*options, Path(sys.argv[2]))
    sys.stdout.write(f"{peak} {made.projected_mem}")
