"""Rings: what a translation, or the detector at it, measures too high or too low at all angles."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import planned_sinogram
from ndtomo_dask.correct.correction import correct_blocks, mask_beside
from ndtomo_dask.kernels.corrections import stripes
from ndtomo_dask.kernels.gaps import kept_samples
from ndtomo_dask.schema import floating, label
from ndtomo_dask.variables import SINOGRAM

Method = Literal["sorting", "filtering", "wavelet", "regularized", "large", "dead", "all"]


def remove_rings(
    ds: xr.Dataset,
    *,
    method: Method = "sorting",
    size: int | None = None,
    large_size: int | None = None,
    sigma: float | None = None,
    level: int | None = None,
    damping: float | None = None,
    wavelet: str | None = None,
    regularization: float | None = None,
    snr: float | None = None,
) -> xr.Dataset:
    """Remove stripes along the angle from the sinogram of each channel, by Algotom's filters.

    A stripe is what one translation measures too high or too low at every angle; an image shows it
    as a ring. The filters of Vo et al., Optics Express 26, 28396 (2018); ``"wavelet"`` is that of
    Münch et al., Optics Express 17, 8567 (2009), ``"regularized"`` that of Titarenko et al., Appl.
    Math. Lett. 23, 1489 (2010). Needs ``pip install 'ndtomo-dask[corrections]'``.

    Parameters
    ----------
    ds
        A scan with ``sinogram``, whole along angle and translation.
    method
        ``"sorting"``: each translation's samples are sorted and smoothed across translations, for
        most stripes; ``"filtering"``: the same for slow changes along the angle only, of width
        ``sigma``; ``"wavelet"``: a Fourier filter of wavelet coefficients; ``"regularized"``: the
        mean over angles made smooth; ``"large"`` and ``"dead"``: stripes that stand out by ``snr``,
        wide ones, and those without a signal; ``"all"``: these two and ``"sorting"``.
    size
        Translations that the median is taken over: more than a stripe is wide, less than what the
        sample shows. By default 21, at most a twelfth of all; for ``"large"`` and ``"dead"`` 51,
        at most a sixth.
    large_size
        The same for wide stripes of ``"all"``.
    sigma
        Frequencies, counted from 0, that ``"filtering"`` takes for slow (3).
    level, damping, wavelet
        Of ``"wavelet"``: levels (5, or as many as there are), strength (1), name (``"db9"``).
    regularization
        Of ``"regularized"``: smaller is stronger (0.0005).
    snr
        How much a stripe stands out of the noise to be one (3).

    Notes
    -----
    The filters know a stripe by being narrower than what the sample shows, and take its sharp
    edges and small grains for stripes as well: look at what is removed. On sinograms of few
    translations they may do more harm than good.

    A sample that is NaN or masked has no part and stays as it is, and a channel that does not vary
    stays as it is. ``sinogram_variance`` stays as it is; the filters' own noise is neglected.
    ``"sorting"``, ``"large"``, ``"dead"`` and ``"all"`` compute in single precision.
    """
    whole = ["angle", "translation"]
    sinogram = planned_sinogram(ds, "remove_rings", whole)
    asked = {
        "size": size, "large_size": large_size, "sigma": sigma, "level": level,
        "damping": damping, "wavelet": wavelet, "regularization": regularization, "snr": snr,
    }  # fmt: skip
    options = stripes.given_options(method, asked)
    options = stripes.with_sizes(method, options, sinogram.sizes["translation"])
    stripes.load_algotom()
    shape = sinogram.sizes["angle"], sinogram.sizes["translation"]
    stripes.check_shape(shape, method, options)

    mask, where = mask_beside(ds, "remove_rings")
    corrected = correct_blocks(
        remove_rings_block, sinogram, *mask, method=method, options=options, **where
    )

    return label(ds, {SINOGRAM: corrected}, step="remove_rings", method=method, **options)


def remove_rings_block(
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    method: str,
    options: dict[str, Any],
    mask_dims: Sequence[int] = (),
) -> np.ndarray:
    """Remove stripes from each channel, (angle, translation, channel) -> the same."""
    values = block.astype(floating(block.dtype), copy=False)
    kept = kept_samples(values, mask, mask_dims)
    return stripes.remove_stripes(values, kept, method=method, options=options)
