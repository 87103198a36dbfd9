"""A few mixed channels that stand for all of a sinogram: found out of core, and checked.

Few thousand spectra settle the basis. Then all of the sinogram is searched for what the basis does
not explain.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import ceil, prod
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, is_lazy, mix_kernel, reduce_kernel
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.components import spectral_rank, spectral_residual
from ndtomo_dask.kernels.components.spectral_rank import Scale, mix_channels
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.plan_mixing import WINDOWS
from ndtomo_dask.schema import floating
from ndtomo_dask.variables import KEPT_CHANNEL, LEADING, SPECTRAL_BASIS, SPECTRAL_WEIGHT

Rank = int | Literal["auto"]
SAMPLE_ROWS = 8192
"""Spectra, evenly spread over the scan, from which the basis is found."""
SAMPLE_BLOCK = 4096
"""Of these, at most so many in one task."""
MARGIN = (1.5, 2)
"""``"auto"`` takes so many times the significant rank, and so many components more."""


def find_eigenchannels(
    sinogram: xr.DataArray,
    geometry: ParallelGeometry,
    *,
    rank: Rank = "auto",
    peak_width: int | None = None,
    threshold: float = 7.0,
    together: int = WINDOWS,
) -> xr.Dataset:
    """Find the basis that explains a sinogram, and the channels that it does not; computes.

    The sinogram may be in any blocks that are whole along the translations; ``together`` windows of
    channels are searched in one task.
    """
    sinogram = sinogram.astype(floating(sinogram.dtype), copy=False)
    scale = noise_scale_of(sinogram)
    vectors, values, rows = _eigenvectors(sampled(sinogram), scale)
    suggested = spectral_rank.significant_rank(values, rows)
    count = _rank(rank, suggested, values.size)
    with one_blas_thread():
        weight, basis = spectral_rank.mixing_matrices(vectors(count), scale)

    strength = values[:count, None] / max(values[0], 1) if count else values[:0, None]
    strong = (strength * basis)[: max(1, suggested)]
    width = spectral_residual.peak_width(strong) if peak_width is None else peak_width
    scores = (
        _scores(sinogram, geometry, weight, basis, scale.used, width, together)
        if count and np.isfinite(threshold)
        else np.zeros(spectral_residual.peak_windows(scale.used, width).shape[1])
    )
    found = spectral_residual.channels_of_windows(scores > threshold, scale.used, width)
    made = _with_kept(weight, basis, ~scale.used | found)
    made["singular_value"] = ("order", values)
    made["residual_score"] = ("channel", _per_channel(scores, scale.used, width))
    digest = blake2b(weight.tobytes() + basis.tobytes() + found.tobytes(), digest_size=8)
    return made.assign_attrs(
        rank=count, suggested_rank=suggested, peak_width=width, threshold=float(threshold),
        incomplete_channels=int((~scale.used).sum()), digest=digest.hexdigest(),
    )  # fmt: skip


def noise_scale_of(sinogram: xr.DataArray) -> Scale:
    """Scale of each channel from its mean; channels in which a sample is missing are not used.

    Samples that are missing in every channel are no hindrance: all have the same geometry then.
    """
    others = [dim for dim in sinogram.dims if dim != "channel"]
    sums = apply_kernel(sum_block, sinogram, core=["translation"], out={}, dtype="float64")
    rest = [dim for dim in others if dim != "translation"]
    (total,) = compute_arrays([sums.sum(rest, skipna=False)], "sum each channel")
    samples = prod(sinogram.sizes[dim] for dim in others)
    if np.isfinite(total).all():
        return spectral_rank.noise_scale(total.values / samples, np.ones(total.size, dtype=bool))
    return _scale_with_gaps(sinogram, rest)


def _scale_with_gaps(sinogram: xr.DataArray, rest: Sequence[Any]) -> Scale:
    finite = sinogram.copy(data=np.isfinite(sinogram.data))
    others = [*rest, "translation"]
    sums = sinogram.where(finite, 0).sum(others, dtype="float64")
    counts = finite.sum(others)
    total, count = compute_arrays([sums, counts], "count what is missing")
    used = count.values == count.values.max()
    everywhere = finite.isel(channel=used).all("channel").sum()
    (common,) = compute_arrays([everywhere], "count complete spectra")
    if int(common) < int(count.max()):  # as many are missing in each channel, but others
        used = count.values == prod(sinogram.sizes[dim] for dim in others)
    return spectral_rank.noise_scale(total.values / np.maximum(count.values, 1), used)


def sum_block(block: np.ndarray) -> np.ndarray:
    """Sum each projection, (angle, translation, channel) -> (angle, channel); NaN if one is."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.asarray(block.sum(axis=1), dtype=np.float64)
    return np.where(np.isfinite(sums), sums, np.nan)


def sampled(sinogram: xr.DataArray) -> xr.DataArray:
    """Take whole spectra evenly spread over the scan, by a rule that does not know of blocks."""
    strides = {dim: 1 for dim in (*LEADING, "angle") if dim in sinogram.dims}

    def left(dim: str) -> int:
        return ceil(sinogram.sizes[dim] / strides[dim])

    while sinogram.sizes["translation"] * prod(map(left, strides)) > SAMPLE_ROWS:
        longest = max(strides, key=left)
        if left(longest) == 1:
            break
        strides[longest] += 1
    sample = sinogram.isel({dim: slice(None, None, step) for dim, step in strides.items()})
    if not is_lazy(sample):
        return sample
    rows = max(1, SAMPLE_BLOCK // sinogram.sizes["translation"])
    return sample.chunk(
        {"channel": -1, "angle": rows, **dict.fromkeys(set(strides) - {"angle"}, 1)}
    )


def _eigenvectors(
    sample: xr.DataArray, scale: Scale
) -> tuple[Callable[[int], np.ndarray], np.ndarray, int]:
    """Make a function from a rank to vectors of the used channels; singular values; spectra."""
    gram = reduce_kernel(
        sample, spectral_rank.gram_partial, spectral_rank.gram_combine,
        description="products of the spectra", scale=scale,
    )  # fmt: skip
    with one_blas_thread():
        values, groups = spectral_rank.eigen_decomposition(gram)

    def vectors(rank: int) -> np.ndarray:
        if spectral_rank.group_size(int(scale.used.sum())) == 1 or not rank:
            return groups[:, :rank]
        refined = reduce_kernel(
            sample,
            spectral_rank.refine_partial,
            np.add,
            description="refine the basis",
            scale=scale,
            vectors=groups[:, :rank],
        )  # fmt: skip
        return np.asarray(refined)

    return vectors, values, gram.rows


def _rank(rank: object, suggested: int, largest: int) -> int:
    if rank == "auto":
        return min(ceil(MARGIN[0] * suggested) + MARGIN[1], largest)
    if not isinstance(rank, int) or not 1 <= rank <= largest:
        raise OptionError(
            f"rank={rank!r} must be 'auto' or a number of components from 1 to {largest}."
        )
    return rank


def _scores(
    sinogram: xr.DataArray, geometry: ParallelGeometry, weight: np.ndarray, basis: np.ndarray,
    used: np.ndarray, width: int, together: int,
) -> np.ndarray:  # fmt: skip
    """Score of each window of channels: how far a pixel of its residual stands out."""
    windows = spectral_residual.peak_windows(used, width).astype(sinogram.dtype)
    coarse = spectral_residual.coarse_geometry(geometry)
    with one_blas_thread():
        shares = basis @ windows
    mixed = _coarse(_mixed(mix_channels, sinogram, weight, "component"), coarse.translations)
    scores = []
    for first in range(0, windows.shape[1], together):
        some = windows[:, first : first + together]
        inside = np.flatnonzero(some.any(axis=1))
        span = slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(1)
        part = sinogram.isel(channel=span)
        sums = _mixed(spectral_residual.window_sums, part, some[span], "window")
        share = shares[:, first : first + together]
        explained = _mixed(mix_channels, mixed, share, "window")
        score = apply_kernel(
            spectral_residual.structure_scores, _coarse(sums, coarse.translations) - explained,
            core=["angle", "translation"], out={}, dtype="float64", geometry=coarse,
        )  # fmt: skip
        scores.append(score.max([dim for dim in score.dims if dim != "window"]))
    done = compute_arrays(scores, "search the residual for structure")
    return np.concatenate([score.values for score in done])


def _mixed(kernel: Any, array: xr.DataArray, matrix: np.ndarray, into: str) -> xr.DataArray:
    table = xr.DataArray(matrix.astype(array.dtype), dims=(array.dims[-1], into))
    return mix_kernel(kernel, array.drop_vars(list(array.coords)), table)


def _coarse(array: xr.DataArray, translations: int) -> xr.DataArray:
    return apply_kernel(
        spectral_residual.coarse_sinogram, array, core=["translation"],
        out={"translation": translations},
    )  # fmt: skip


def _per_channel(scores: np.ndarray, used: np.ndarray, width: int) -> np.ndarray:
    """Largest score of the windows in which a channel lies."""
    return np.asarray((spectral_residual.peak_windows(used, width) * scores).max(axis=1))


def _with_kept(weight: np.ndarray, basis: np.ndarray, kept: np.ndarray) -> xr.Dataset:
    """Give each kept channel a component of its own."""
    own = np.eye(kept.size)[kept]
    return xr.Dataset(
        {
            SPECTRAL_WEIGHT.name: (("component", "channel"), np.concatenate([weight.T, own])),
            SPECTRAL_BASIS.name: (
                ("component", "channel"), np.concatenate([np.where(kept, 0, basis), own])
            ),
            KEPT_CHANNEL.name: ("channel", kept),
        }
    )  # fmt: skip
