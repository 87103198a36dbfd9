"""Filtered back-projection: one pass, linear, and the only method with no iterations to choose."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.filters import WINDOWS, filter_response, filter_sinogram, ramp_impulse
from ndtomo_dask.kernels.projectors import Projector
from ndtomo_dask.kernels.solvers.problem import Support, support_of

Array = Any
Float64 = NDArray[np.float64]
Filter = str | Callable[[Float64], Float64] | Float64 | None
"""A name, a window as a function of the frequency, a window as an array, or no filter."""

GROUP = 16
"""Projections transformed at once, where no named filter does it faster."""


def fbp(
    A: Projector,
    sinogram: Array,
    *,
    filter_name: Filter = "ram-lak",
    cutoff: float = 1.0,
    support: Support = None,
) -> Array:  # (angle, translation, channel) -> (y, x, channel)
    """Reconstruct by filtered back-projection, f = ∫ q(u, θ) dθ (Kak & Slaney 1988, ch. 3).

    Each projection counts for its share of the half turn (`ParallelGeometry.weights`), so angles
    may be unsorted, uneven or span a full turn. A projector with an ``fbp`` of its own is asked
    for the named filters.

    Parameters
    ----------
    A
        Projector of the sinogram's geometry.
    sinogram
        Line integrals, with lengths in translation steps; samples are taken as they are, and a NaN
        spoils its channel only.
    filter_name
        A name in `ndtomo_dask.kernels.filters.WINDOWS`; or a window on the ramp, as a function of
        the frequency (0 to 0.5 cycles per translation step) or as an array of its values from
        frequency 0 to 0.5, evenly spaced; or None, which back-projects without a filter.
    cutoff
        Frequency, as a share of the largest (0.5), to which the window is squeezed and beyond
        which nothing passes; less than 1 smooths.
    support
        None for all pixels; "circle" or True where a pixel may be other than 0, (y, x).

    Returns
    -------
    Density per translation step: the projections of a disc of density 1 give 1 inside.
    """
    volume = _filter_and_back_project(A, sinogram, filter_name, cutoff)
    region = support_of(A.geometry, support)
    if region is None:
        return volume
    xp = array_namespace(volume)
    inside = xp.asarray(region[..., None], device=device(volume))
    return xp.where(inside, volume, xp.zeros_like(volume))


def _filter_and_back_project(
    A: Projector, sinogram: Array, filter_name: Filter, cutoff: float
) -> Array:
    own = getattr(A, "fbp", None)
    named = isinstance(filter_name, str) and cutoff == 1
    if own is not None and named and sinogram.ndim == 3:
        return own(sinogram, filter_name)
    if named and is_numpy_array(sinogram):
        filtered = filter_sinogram(sinogram, str(filter_name), weights=A.geometry.weights)
    else:
        filtered = _apply_window(sinogram, filter_name, cutoff, A.geometry.weights)
    volume = A.T(filtered)
    area = A.geometry.pixel_size**2  # a pixel gives its density times its area to a projection
    return volume if area == 1 else volume / area


def window_response(filter_name: Filter, length: int, *, cutoff: float = 1.0) -> Float64:
    """Real gain at each frequency of a real transform of ``length`` samples; 1 without a filter.

    >>> window_response("ram-lak", 8, cutoff=0.5).round(2)
    array([0.02, 0.12, 0.25, 0.  , 0.  ])
    """
    if not 0 < cutoff <= 1:
        raise OptionError(f"cutoff={cutoff:g} must be more than 0 and at most 1, the whole band.")
    frequency = scipy.fft.rfftfreq(length)
    passed = frequency <= 0.5 * cutoff
    if filter_name is None:
        return np.asarray(passed, dtype=np.float64)
    if isinstance(filter_name, str):
        filter_response(filter_name, length)  # refuses an unknown name, in its own words
    window = _window(filter_name)(frequency / cutoff)
    if np.shape(window) != frequency.shape or not np.isfinite(window[passed]).all():
        raise OptionError(
            "a window must be finite and give one value for each frequency from 0 to 0.5: "
            "pass a function of an array of frequencies, or an array."
        )
    ramp = scipy.fft.rfft(ramp_impulse(length)).real
    return np.asarray(np.where(passed, ramp * window, 0.0))


def _window(filter_name: Any) -> Callable[[Float64], Float64]:
    if isinstance(filter_name, str):
        return WINDOWS[filter_name]
    if callable(filter_name):
        window: Callable[[Float64], Float64] = filter_name
        return window
    values = np.asarray(filter_name, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise OptionError("a window as an array needs its values from frequency 0 to 0.5 in a row.")
    return lambda frequency: np.interp(frequency, np.linspace(0, 0.5, values.size), values)


def _apply_window(
    sinogram: Array, filter_name: Filter, cutoff: float, weights: Float64
) -> Array:  # (angle, translation, channel) -> the same
    """Weight and filter each projection, zero-padded to twice its length."""
    xp = array_namespace(sinogram)
    translations = sinogram.shape[1]
    length = scipy.fft.next_fast_len(2 * translations, real=True)
    gain = window_response(filter_name, length, cutoff=cutoff)
    share = xp.asarray(weights, dtype=sinogram.dtype, device=device(sinogram))
    if filter_name is None and cutoff == 1:
        return sinogram * share[:, None, None]
    gain = xp.asarray(gain, dtype=sinogram.dtype, device=device(sinogram))[None, :, None]
    filtered = xp.empty_like(sinogram)
    for first in range(0, sinogram.shape[0], GROUP):
        some = slice(first, first + GROUP)
        spectrum = xp.fft.rfft(sinogram[some], n=length, axis=1) * gain
        found = xp.fft.irfft(spectrum, n=length, axis=1)[:, :translations]
        filtered[some] = found * share[some, None, None]
    return filtered
