"""How many iterations, how much regularization: judged by projections that were held out.

Some projections are kept from the method, which reconstructs from the others; the volume is
projected, and where it comes closest to what was held out, it has neither missed what all
projections show nor followed the noise of each.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import MODEL, check_backend, load_projector
from ndtomo_dask.kernels.reconstruction import METHODS, given_options
from ndtomo_dask.kernels.solvers import hold_out, score_candidates, score_iterations
from ndtomo_dask.scan_geometry import geometry_of
from ndtomo_dask.schema import floating, label, require, without_masked
from ndtomo_dask.variables import (
    BEST_ITERATIONS,
    BEST_REGULARIZATION,
    HELD_OUT_MISFIT,
    LEADING,
    SINOGRAM,
    Variable,
)

_STEPS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)


def find_iterations(
    ds: xr.Dataset,
    *,
    method: Literal["sirt", "os_sirt", "sart", "cgls", "mlem", "osem"] = "sirt",
    candidates: Sequence[int] = _STEPS,
    options: Mapping[str, Any] | None = None,
    fraction: float = 0.1,
    channels: int = 16,
    seed: int = 0,
    backend: str = "auto",
) -> xr.Dataset:
    """Find how many iterations suit the noise of a scan, by projections held out.

    Parameters
    ----------
    ds
        A scan, whole along ``angle`` and ``translation``. Of slices and frames the middle one is
        looked at, and of its channels as many as ``channels`` says, evenly spaced.
    method, options, backend
        As of `reconstruct`; ``options`` are those of the method, such as ``{"nonnegative": True}``.
    candidates
        Numbers of iterations; one run to the largest judges all.
    fraction, seed
        Share of the projections to hold out, and which.
    channels
        How many channels are looked at.

    Returns
    -------
        ``held_out_misfit (candidate, channel)``, the mean square of what was not foreseen, and
        ``best_iterations``, of the least misfit in all channels together.

    Raises
    ------
    SchemaError
        There is no sinogram, it is split along angle or translation, or no channel is finite.
    OptionError
        The method has no iterations, or a candidate is not a number of 1 or more.

    Examples
    --------
    >>> from ndtomo_dask import simulate_scan
    >>> found = find_iterations(simulate_scan(size=32, angles=40, channels=8).load(), channels=4)
    >>> 1 <= int(found.best_iterations) < 200
    True
    """
    steps = [{"iterations": int(count)} for count in candidates]
    return _find(
        ds, BEST_ITERATIONS, method, steps, options or {}, fraction, channels, seed, backend
    )


def find_regularization(
    ds: xr.Dataset,
    *,
    method: Literal["cgls", "tv"] = "tv",
    candidates: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
    options: Mapping[str, Any] | None = None,
    fraction: float = 0.1,
    channels: int = 16,
    seed: int = 0,
    backend: str = "auto",
) -> xr.Dataset:
    """Find the weight of a penalty that suits the noise of a scan, by projections held out.

    As `find_iterations`, for values of ``regularization``; each takes a run of its own. Returns
    ``held_out_misfit (candidate, channel)`` and ``best_regularization``.
    """
    weights = [{"regularization": float(weight)} for weight in candidates]
    return _find(
        ds, BEST_REGULARIZATION, method, weights, options or {}, fraction, channels, seed, backend
    )


def _find(
    ds: xr.Dataset,
    best: Variable,
    method: str,
    candidates: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    fraction: float,
    channels: int,
    seed: int,
    backend: str,
) -> xr.Dataset:
    verb = f"find_{best.name.removeprefix('best_')}"
    check_backend(backend)
    if not candidates:
        raise OptionError(f"{verb} has no candidates: pass at least one.")
    asked = [given_options(method, {**options, **candidate}) for candidate in candidates]
    if METHODS[method].coupled or not METHODS[method].iterative:
        raise OptionError(f"{verb} judges channels one by one, which method={method!r} does not.")
    if set(asked[0]) & {"weighted", "start", "stop"}:
        raise OptionError(f"{verb} takes no weights, start or stop: leave them out.")
    sinogram = require(ds, SINOGRAM, verb=verb, whole=["angle", "translation"])
    sample = _sample(without_masked(ds, sinogram, verb=verb), channels)
    misfit = apply_kernel(
        held_out_block, sample, core=["angle", "translation"], out={"candidate": len(asked)},
        dtype="float64", geometry=geometry_of(ds, verb=verb), method=method, candidates=asked,
        fraction=fraction, seed=seed, backend=backend,
    )  # fmt: skip

    (misfit,) = compute_arrays([misfit], verb.replace("_", " "))

    summed = misfit.sum("channel", skipna=True).values
    if not np.isfinite(misfit.values).any():
        raise SchemaError(f"{verb} needs channels without gaps, but none of {channels} is finite.")
    (name,) = candidates[0]
    values = np.array([candidate[name] for candidate in candidates])
    misfit = misfit.assign_coords({name: ("candidate", values)})
    chosen = xr.DataArray(values[int(np.argmin(summed))])
    told = {"method": method, "fraction": fraction, "channels": channels, "seed": seed}
    return label(xr.Dataset(), {HELD_OUT_MISFIT: misfit, best: chosen}, step=verb, **told)


def _sample(sinogram: xr.DataArray, channels: int) -> xr.DataArray:
    """Take the middle slice or frame, and some channels evenly spaced, as one block."""
    middle = {dim: sinogram.sizes[dim] // 2 for dim in LEADING if dim in sinogram.dims}
    count = min(max(1, channels), sinogram.sizes["channel"])
    places = np.linspace(0, sinogram.sizes["channel"] - 1, 2 * count + 1)[1::2].round().astype(int)
    sample = sinogram.isel({**middle, "channel": np.unique(places)})
    return sample.chunk(channel=-1) if sample.chunks else sample


def held_out_block(
    sinogram: np.ndarray,
    *,
    geometry: ParallelGeometry,
    method: str,
    candidates: Sequence[Mapping[str, Any]],
    fraction: float,
    seed: int,
    backend: str,
) -> np.ndarray:
    """Misfit of candidates, (angle, translation, channel) -> (candidate, channel).

    Per sample held out; NaN in a channel that has no finite sample.
    """
    sinogram = np.asarray(sinogram, dtype=floating(sinogram.dtype))
    finite = np.isfinite(sinogram)
    held_out = hold_out(geometry, fraction, seed)
    judged = finite[held_out].sum(axis=(0, 1))
    A, solve = load_projector(backend, geometry, MODEL), METHODS[method].solve
    known: dict[str, Any] = {"held_out": held_out, "mask": None if finite.all() else ~finite}
    samples = np.where(finite, sinogram, sinogram.dtype.type(0))
    if "regularization" in candidates[0] and len({c["regularization"] for c in candidates}) > 1:
        scored = score_candidates(A, samples, solve, [dict(one) for one in candidates], **known)
    else:
        common = {name: candidates[0][name] for name in candidates[0] if name != "iterations"}
        steps = [one["iterations"] for one in candidates]
        scored = score_iterations(A, samples, solve, steps, **known, **common)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(judged > 0, np.asarray(scored.curve) / judged, np.nan)
