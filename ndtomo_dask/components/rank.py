"""How many components the data hold: above the noise, and the same in every part of the pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.components.moments import SpectralMoments, compressed, moments_for
from ndtomo_dask.components.spectra import Data, check_counts, spectra_of
from ndtomo_dask.errors import OptionError
from ndtomo_dask.held import Held, held
from ndtomo_dask.kernels.components import nmf, nmf_start
from ndtomo_dask.kernels.components.sample import SPREAD
from ndtomo_dask.kernels.components.spectral_rank import noise_scale, significant_rank
from ndtomo_dask.kernels.components.stability import stability
from ndtomo_dask.kernels.reductions import Reduce
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import record

STABLE = 0.95
"""Mean cosine of a component with those found in other parts, from which on it is stable."""


def find_rank(
    ds: Data,
    moments: xr.Dataset | None = None,
    *,
    most: int = 8,
    subsets: int = 4,
    iterations: int = 100,
    variable: str = "volume",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Suggest how many components to look for, by the noise and by stability.

    Singular values of the whitened spectra that stand above noise of unknown strength are counted
    (Gavish & Donoho, IEEE Trans. Inf. Theory 60, 5040 (2014)). And NMF is done with 1 to ``most``
    components on halves of the pixels that are chosen by their numbers; with too many, components
    of different halves differ. The data are read once more than for the moments.

    Parameters
    ----------
    ds
        A dataset with ``variable`` in whole spectra, or a list of datasets.
    moments
        What `find_spectral_moments` returned for the same data.
    most
        Components to try at most.
    subsets
        Halves of the pixels that are compared, 2 to 32.
    iterations
        Of each NMF, at most.
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``stability (components)``, the least mean cosine of a component with its like in other
        halves; ``unexplained (components)``, the share of ‖X‖² that NMF leaves; and the numbers
        ``stable_rank`` (the largest with a stability of 0.95) and ``significant_rank``.
    """
    check_counts([("most", most), ("iterations", iterations)])
    if not 2 <= subsets <= 32:
        raise OptionError(f"subsets={subsets} must lie between 2 and 32.")
    spectra = spectra_of(ds, variable, verb="find_rank")

    with one_blas_thread():
        known = moments_for(spectra, moments, passes=1, rank=most, allowed_mem=allowed_mem)
        basis = nmf.nmf_basis(known.sums, known.shift, most)
        with held(compressed(spectra, known, basis.vectors), "compress the spectra") as rows:
            halves = [_half(rows, number) for number in range(subsets)]
            tried = [_try(rows, halves, basis, count, iterations) for count in range(1, most + 1)]

    stable, unexplained = np.array(tried).T
    enough = np.flatnonzero(stable >= STABLE)
    made = xr.Dataset(
        {
            "stability": ("components", stable),
            "unexplained": ("components", unexplained),
            "stable_rank": int(enough[-1]) + 1 if enough.size else 0,
            "significant_rank": _significant(known),
        },
        coords={"components": np.arange(1, most + 1)},
        attrs={"dropped_spectra": known.dropped, "masked_spectra": known.masked},
    )
    return record(made, "find_rank", most=most, subsets=subsets)


def _significant(moments: SpectralMoments) -> int:
    sums, shift = moments.sums, moments.shift
    mixed = np.outer(sums.sum, shift)
    gram = sums.gram + mixed + mixed.T + sums.count * np.outer(shift, shift)
    if moments.prepare.scale is None:
        mean = sums.sum / max(1, sums.count) + shift
        scale = noise_scale(mean, np.ones(mean.size, dtype=bool)).channel
        gram = gram / np.outer(scale, scale)
    values = np.sqrt(np.linalg.eigvalsh(gram)[::-1].clip(min=0))
    return significant_rank(values, sums.count)


def _half(rows: Held, number: int) -> Reduce:
    def reduce(
        partial: Callable[..., Any], combine: Callable[[Any, Any], Any], **options: Any
    ) -> Any:
        return rows.numbered(half_block, combine, half=number, work=partial, options=options)

    return reduce


def half_block(
    rows: np.ndarray, number: np.ndarray, *, half: int, work: Callable[..., Any],
    options: dict[str, Any],
) -> Any:  # fmt: skip
    """Reduce those rows of a block that lie in one of the halves."""
    with np.errstate(over="ignore"):
        mixed = number.astype(np.uint64) * SPREAD
        mixed = (mixed ^ (mixed >> np.uint64(32))) * SPREAD
    return work(rows[(mixed >> np.uint64(63 - half)) & np.uint64(1) == 1], **options)


def _try(
    rows: Held, halves: Sequence[Reduce], basis: nmf.NmfBasis, count: int, iterations: int
) -> tuple[float, float]:
    sets = [_spectra(half, basis, count, iterations).spectra for half in halves]
    found = nmf.nmf_from_sums(rows, basis, count, iterations=iterations)
    energy = max(basis.energy, np.finfo(np.float64).tiny)
    return stability([found.spectra, *sets]), found.objective / energy


def _spectra(
    half: Reduce, basis: nmf.NmfBasis, count: int, iterations: int
) -> nmf.NonnegativeFactors:
    energy = half(nmf_start.energy_partial, nmf_start.energy_combine)
    part = nmf.NmfBasis(basis.vectors, float((energy.positive + energy.negative).sum()))
    return nmf.nmf_from_sums(half, part, count, iterations=iterations)
