"""How `find_components` finds them, by each method, and what the result holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.block_sizes import LARGEST_GRAM, is_sketched
from ndtomo_dask.components.moments import SpectralMoments, compressed
from ndtomo_dask.components.spectra import Spectra, thinned
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.held import held, streamed
from ndtomo_dask.kernels.components import factors, nmf, nmf_start
from ndtomo_dask.kernels.components import independent as ica
from ndtomo_dask.kernels.components.sketch import Leading
from ndtomo_dask.schema import require
from ndtomo_dask.variables import CHANNEL, COMPONENT_MEAN, COMPONENT_SPECTRUM

NMF_SAMPLE = 50_000
"""Spectra, about, on which NMF stands still before it goes on with all of them."""
LARGEST_SHARE = 0.25
"""Of the spectra in such a sample: beyond it, those iterations save none with all."""
STREAM_TOLERANCE = 1e-5
"""Change of the objective that ends such iterations, since each is a reading."""


def known_spectra(
    known: xr.Dataset | None, components: int, spectra: Spectra, moments: SpectralMoments
) -> np.ndarray | None:
    """Return the known spectra in the used channels, scaled as the data are."""
    if known is None:
        return None
    rows = require(known, COMPONENT_SPECTRUM, verb=spectra.verb).values.astype(np.float64)
    if rows.shape[1] != spectra.channels:
        raise SchemaError(
            f"find_components was given known spectra of {rows.shape[1]} channels, but the data "
            f"have {spectra.channels}. Select the same channels of both."
        )
    rows = rows[:, moments.prepare.used]
    if not np.isfinite(rows).all():
        raise SchemaError("find_components needs known spectra that are finite in all channels.")
    if len(rows) > components:
        raise OptionError(
            f"components={components} must be at least {len(rows)}, the number of known spectra."
        )
    return rows if moments.prepare.scale is None else rows / moments.prepare.scale


def is_randomized(
    solver: str, moments: xr.Dataset | None, spectra: Spectra, *, nmf_of: int | None = None
) -> bool:
    """Tell whether directions are to be found without all products of channels.

    NMF of so many components needs no eigenvalues, so that one reading is enough.
    """
    if solver == "randomized" and moments is not None:
        raise OptionError(
            "solver='randomized' reads the data in place of moments. Leave out one of the two."
        )
    if solver != "auto" or moments is not None:
        return solver == "randomized"
    if nmf_of is None:
        return spectra.channels > LARGEST_GRAM
    return is_sketched(spectra.count, spectra.channels, nmf_of)


def principal_components(
    moments: SpectralMoments, components: int, leading: Leading | None
) -> factors.PrincipalComponents:
    """Return principal components, of moments or of leading directions."""
    if leading is None:
        return factors.pca_finalize(moments.sums, moments.shift, components)
    count = moments.sums.count
    variance = leading.values / (count - 1)
    total = max(leading.trace / (count - 1), np.finfo(np.float64).tiny)
    mean = moments.sums.sum / count + moments.shift
    return factors.PrincipalComponents(mean, leading.vectors.T, variance, variance / total, total)


def labelled(moments: SpectralMoments, found: factors.PrincipalComponents) -> xr.Dataset:
    """Name what PCA or ICA has found."""
    return xr.Dataset(
        {
            "component_spectrum": (("component", CHANNEL), moments.everywhere(found.spectra)),
            COMPONENT_MEAN.name: (CHANNEL, moments.everywhere(found.mean)),
            "explained_variance": ("component", found.variance),
            "explained_variance_ratio": ("component", found.explained_ratio),
        },
        attrs={"average": moments.prepare.average},
    )


def independent(
    spectra: Spectra, moments: SpectralMoments, principal: factors.PrincipalComponents,
    iterations: int,
) -> xr.Dataset:  # fmt: skip
    """Rotate principal components until their amounts are independent; name them."""
    basis = ica.whitening(principal)
    with held(compressed(spectra, moments, basis, principal.mean), "whiten the spectra") as scores:
        found = ica.independent_components(scores, principal, iterations=iterations)
    ratio = found.variance / principal.total
    turned = principal._replace(
        spectra=found.spectra, variance=found.variance, explained_ratio=ratio
    )
    return labelled(moments, turned).assign_attrs(iterations=found.iterations)


def nonnegative(
    spectra: Spectra, moments: SpectralMoments, components: int, leading: Leading | None, *,
    streaming: bool = False, **options: Any,
) -> xr.Dataset:  # fmt: skip
    """Factorize the spectra and name what was found."""
    sparsity = options["sparsity"]
    if sparsity > 0 and moments.prepare.scale is not None:
        raise OptionError(
            f"sparsity={sparsity!r} needs moments without scaling, but these are scaled for "
            f"counting noise. Find others: find_spectral_moments(ds)."
        )
    if leading is None:
        basis = nmf.nmf_basis(moments.sums, moments.shift, components)
    else:
        total = np.abs(moments.sums.sum + moments.sums.count * moments.shift).sum()
        basis = nmf.NmfBasis(leading.vectors, leading.trace, float(total))
    scores = compressed(spectra, moments, basis.vectors)
    if streaming:
        found = _streamed(spectra, moments, basis, components, scores, options)
    else:
        with held(scores, "compress the spectra") as rows:
            share = NMF_SAMPLE / max(1, moments.sums.count)
            some = rows.sample(share) if share < LARGEST_SHARE else None
            found = nmf.nmf_from_sums(rows, basis, components, some=some, **options)
    unit, weight = found.spectra, found.weight
    if moments.prepare.scale is not None:
        unit = unit * moments.prepare.scale
        area = unit.sum(axis=1)
        unit, weight = unit / np.where(area > 0, area, 1.0)[:, None], weight * area
    energy = max(basis.energy, np.finfo(np.float64).tiny)
    return xr.Dataset(
        {
            "component_spectrum": (("component", CHANNEL), moments.everywhere(unit)),
            "component_weight": ("component", weight),
            "objective": found.objective,
            "explained_energy": 1 - found.misfit / energy,
        },
        attrs={
            "iterations": found.iterations, "threshold": nmf.penalty_threshold(basis, sparsity),
        },
    )  # fmt: skip


def _streamed(
    spectra: Spectra, moments: SpectralMoments, basis: nmf.NmfBasis, components: int,
    scores: Sequence[xr.DataArray], options: dict[str, Any],
) -> nmf.NonnegativeFactors:  # fmt: skip
    """Factorize some spectra that are held, and go on from there with all, which are not."""
    some = compressed(thinned(spectra, NMF_SAMPLE), moments, basis.vectors)
    with held(some, "compress some spectra") as rows:
        energy = rows(nmf_start.energy_partial, nmf_start.energy_combine)
        begin = {}
        if energy.count > basis.vectors.shape[1]:
            squares = float((energy.positive + energy.negative).sum())
            share = energy.count / max(1, moments.sums.count)
            part = nmf.NmfBasis(basis.vectors, squares, basis.intensity * share)
            begin = {"start": nmf.nmf_from_sums(rows, part, components, **options).spectra}
    again = streamed(scores, "read the spectra again")
    options = options | begin | {"tolerance": STREAM_TOLERANCE}
    return nmf.nmf_from_sums(again, basis, components, **options)
