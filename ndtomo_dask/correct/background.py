"""Backgrounds under the peaks of spectra."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import planned_sinogram
from ndtomo_dask.correct.correction import correct_blocks, mask_beside, planned_volume
from ndtomo_dask.errors import check_choice
from ndtomo_dask.kernels.corrections import background
from ndtomo_dask.kernels.gaps import kept_samples
from ndtomo_dask.schema import floating, label
from ndtomo_dask.variables import SINOGRAM, VOLUME_WITHOUT_BACKGROUND

_VERB = "subtract_background"


def subtract_background(
    ds: xr.Dataset,
    *,
    variable: Literal["sinogram", "volume"] = "sinogram",
    method: Literal["snip", "asls", "arpls", "polynomial"] = "snip",
    width: int | None = None,
    smooth: int | None = None,
    smoothness: float | None = None,
    asymmetry: float | None = None,
    order: int | None = None,
) -> xr.Dataset:
    """Subtract from each spectrum the broad background under its peaks.

    Parameters
    ----------
    ds
        A scan with ``sinogram``, or a result with ``volume``, whole along channel.
    variable
        Whose spectra: of rays or of pixels.
    method
        ``"snip"``: peaks are clipped from the widest window to the narrowest (Ryan et al., Nucl.
        Instrum. Methods B 34, 396 (1988)), for thousands of spectra a second; ``"asls"`` and
        ``"arpls"``: a smooth curve that lies below the peaks, by asymmetric least squares, or
        weighted anew until it lies in the noise; ``"polynomial"``: fitted to what is left when
        peaks are taken away. All but SNIP need ``pip install 'ndtomo-dask[corrections]'``.
    width
        Of ``"snip"``, which needs it: channels from the top of the broadest peak to its foot.
    smooth
        Of ``"snip"``: channels on either side over which spectra are averaged first (0). SNIP
        follows the lower edge of noise; this raises the edge.
    smoothness
        Of ``"asls"`` (1e6) and ``"arpls"`` (1e5): larger is smoother; for twice the channels 16
        times as much.
    asymmetry
        Of ``"asls"``: weight of what lies above the curve (0.01).
    order
        Of ``"polynomial"`` (3).

    Returns
    -------
        The scan with ``sinogram`` corrected, or the result with ``volume_without_background``.

    Notes
    -----
    No method is linear: the background of a sum of spectra is not the sum of theirs. Along a ray
    it is so nearly, where the background is smooth everywhere; then the rays may be corrected. The
    variance stays as it is; the noise of the background is neglected. What is masked or NaN has no
    part in the background.
    """
    check_choice("variable", variable, ("sinogram", "volume"))
    rays = variable == "sinogram"
    spectra = planned_sinogram(ds, _VERB, ["channel"]) if rays else planned_volume(ds, _VERB)
    asked = {
        "width": width, "smooth": smooth, "smoothness": smoothness, "asymmetry": asymmetry,
        "order": order,
    }  # fmt: skip
    options = background.given_options(method, asked, spectra.sizes["channel"])
    if method != "snip":
        background.load_pybaselines()

    mask, where = mask_beside(ds, _VERB) if rays else ([], {})
    corrected = correct_blocks(
        subtract_background_block, spectra, *mask, method=method, options=options, **where
    )

    made = SINOGRAM if rays else VOLUME_WITHOUT_BACKGROUND
    if not rays:
        corrected = corrected.drop_attrs().assign_attrs(units=spectra.attrs.get("units", ""))
    return label(ds, {made: corrected}, step=_VERB, variable=variable, method=method, **options)


def subtract_background_block(
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    method: str,
    options: dict[str, Any],
    mask_dims: Sequence[int] = (),
) -> np.ndarray:
    """Subtract the background of each spectrum, (..., channel) -> the same."""
    values = block.astype(floating(block.dtype), copy=False)
    kept = kept_samples(values, mask, mask_dims)
    return background.subtract_background(values, kept, method=method, options=options)
