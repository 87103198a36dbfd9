"""Ramp filters of filtered back-projection, along the translations of a sinogram."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ndtomo_dask.errors import check_choice
from ndtomo_dask.kernels.threads import run_threaded

Block = NDArray[np.floating]
Float64 = NDArray[np.float64]

# Windows on the ramp, over the frequency in cycles per translation step (0 to 0.5, Nyquist).
WINDOWS: dict[str, Callable[[Float64], Float64]] = {
    "ram-lak": np.ones_like,
    "shepp-logan": np.sinc,
    "cosine": lambda frequency: np.cos(np.pi * frequency),
    "hann": lambda frequency: 0.5 + 0.5 * np.cos(2 * np.pi * frequency),
    "hamming": lambda frequency: 0.54 + 0.46 * np.cos(2 * np.pi * frequency),
}


def ramp_impulse(length: int) -> Float64:
    """Impulse response of the band-limited ramp: 1/4 at 0, -1/(πn)² at odd n, 0 at even n.

    Periodic in ``length``. Sampling the ramp itself in frequency would lose the mean of every
    projection (Kak & Slaney 1988, ch. 3, eq. 61).

    >>> round(float(ramp_impulse(8)[1]), 4)
    -0.1013
    """
    n = np.rint(np.fft.fftfreq(length) * length)
    odd = n % 2 != 0
    impulse = np.zeros(length)
    impulse[odd] = -1 / (np.pi * n[odd]) ** 2
    impulse[0] = 0.25
    return impulse


@lru_cache(maxsize=32)
def filter_response(name: str, length: int) -> Float64:
    """Real gain of the named filter at each frequency of a real transform of ``length`` samples.

    >>> round(float(filter_response("ram-lak", 64)[-1]), 2)
    0.5
    """
    check_choice("filter_name", name, WINDOWS)
    ramp = scipy.fft.rfft(ramp_impulse(length)).real
    response: Float64 = ramp * WINDOWS[name](scipy.fft.rfftfreq(length))
    response.flags.writeable = False
    return response


def filter_sinogram(
    sinogram: Block, name: str = "ram-lak", *, weights: Float64 | None = None
) -> Block:  # (angle, translation, channel) -> the same
    """Filter each projection along the translations, zero-padded to twice their number.

    Parameters
    ----------
    sinogram
        Line integrals (angle, translation, channel), float32 or float64; a NaN spreads along its
        projection, in its channel only.
    name
        One of `WINDOWS`.
    weights
        Factor of each projection, such as `ParallelGeometry.weights`.

    Returns
    -------
    A new array of the same shape and dtype, in units per translation step.

    Raises
    ------
    OptionError
        If ``name`` is not one of `WINDOWS`.
    """
    translations = sinogram.shape[1]
    length = scipy.fft.next_fast_len(2 * translations, real=True)
    response = filter_response(name, length).astype(sinogram.dtype)
    gain = response.reshape(-1, *(1 for _ in sinogram.shape[2:]))
    filtered = np.empty_like(sinogram, order="C")

    def filter_projection(angle: int) -> None:
        spectrum = scipy.fft.rfft(sinogram[angle], length, axis=0)
        spectrum *= gain if weights is None else gain * sinogram.dtype.type(weights[angle])
        filtered[angle] = scipy.fft.irfft(spectrum, length, axis=0, overwrite_x=True)[:translations]

    run_threaded(filter_projection, range(sinogram.shape[0]))
    return filtered
