"""What a basis of spectra has missed: structure in the images of the residual sinogram.

A phase in a few pixels is invisible in the variance of a sinogram, however clear it is in an image.
So the residual is summed over windows as wide as a peak, reconstructed coarsely, and each image is
searched for pixels that stand out of its noise.
"""

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.compiled import compiled
from ndtomo_dask.kernels.gaps import bridge_gaps
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.solvers import fbp
from ndtomo_dask.kernels.threads import run_threaded

Float = NDArray[np.floating]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

ROWS = 2048
"""Rows that are summed at a time."""
ABREAST = 4
"""Rows that are summed side by side, because each sum waits for the last."""
TAPS = (1, 3, 3, 1)
"""Weights of four samples that become one: with fewer, spots between two coarse pixels are lost."""
FILTER = "cosine"
"""Window on the ramp filter of the search: most of the noise of an image is at high frequencies."""
SPREAD = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""
JUDGED = 1024
"""Pixels, evenly spread, by which the noise of an image is judged."""


def peak_width(spectra: Float64) -> int:
    """Full width at half maximum of the peaks of some spectra, in channels, 3 at least.

    From the first zero τ of the autocorrelation of the derivative, which a smooth background does
    not move: a Gaussian has FWHM = 1.665 τ. Strong spectra count more. (spectrum, channel)
    """
    slope = np.diff(spectra, axis=1)
    if slope.shape[1] < 4:
        return 3
    length = 2 * slope.shape[1]
    power = np.abs(np.fft.rfft(slope, length, axis=1)) ** 2
    correlation = np.fft.irfft(power.sum(axis=0), length)[: slope.shape[1]]
    below = np.flatnonzero(correlation <= 0)
    zero = int(below[0]) if below.size else 2
    before, after = correlation[zero - 1], correlation[zero]
    crossing = zero - 1 + before / (before - after) if before > after else float(zero)
    return max(3, round(1.665 * crossing))


def window_step(width: int) -> int:
    """Channels from one window to the next, for peaks of this width.

    >>> window_step(10)
    8
    """
    return max(1, round(0.75 * width))


def peak_windows(used: Bool, width: int) -> Float64:
    """Windows one and a half peaks wide, each half a window after the last; of 0 and 1.

    A peak that is ``width`` channels wide stands out of the noise nearly as well as in a window of
    its own, wherever it lies, and fewer windows are searched. Channels that are not used stand in
    no window. (channel,) -> (channel, window)
    """
    step = window_step(width)
    starts = np.arange(0, max(1, used.size - step), step)
    place = np.arange(used.size)[:, None]
    inside = (place >= starts) & (place < starts + 2 * step)
    return np.asarray(inside & used[:, None], dtype=np.float64)


def window_sums(block: Float, windows: Float) -> Float:
    """Sum the channels of each window, (…, channel), (channel, window) -> (…, window).

    ``windows`` holds 0 and 1, as of `peak_windows`; what has the weight 0 may be anything. Sums are
    differences of running sums in float64. The result has the dtype of ``windows``.
    """
    rows = block.reshape(-1, block.shape[-1])
    used = np.asarray(windows.any(axis=1))
    inside = windows != 0
    low = np.where(inside.any(axis=0), inside.argmax(axis=0), 0)
    high = np.where(inside.any(axis=0), inside.shape[0] - inside[::-1].argmax(axis=0), 0)
    sums = np.empty((rows.shape[0], windows.shape[1]), dtype=windows.dtype)

    def work(first: int) -> None:
        some = slice(first, first + ROWS)
        _running_differences(rows[some], used, low, high, sums[some])

    run_threaded(work, range(0, rows.shape[0], ROWS))
    return sums.reshape(*block.shape[:-1], windows.shape[1])


@compiled(allocates=True)
def _running_differences(
    rows: Float, used: Bool, low: NDArray[np.intp], high: NDArray[np.intp], sums: Float
) -> None:
    running = np.zeros((ABREAST, used.size + 1))
    last = rows.shape[0] - 1
    for row in range(0, rows.shape[0], ABREAST):
        one, two, three = min(row + 1, last), min(row + 2, last), min(row + 3, last)
        a = b = c = d = 0.0
        for channel in range(used.size):
            if used[channel]:
                a += rows[row, channel]
                b += rows[one, channel]
                c += rows[two, channel]
                d += rows[three, channel]
            running[0, channel + 1] = a
            running[1, channel + 1] = b
            running[2, channel + 1] = c
            running[3, channel + 1] = d
        for line in range(min(ABREAST, rows.shape[0] - row)):
            for window in range(low.size):
                sums[row + line, window] = running[line, high[window]] - running[line, low[window]]


def channels_of_windows(found: Bool, used: Bool, width: int) -> Bool:
    """Channels of the windows with structure, and half a peak to either side: (channel,)."""
    windows = peak_windows(np.ones_like(used), width)[:, found]
    channels = windows.any(axis=1)
    reach = max(1, width // 2)
    wide = np.convolve(channels, np.ones(2 * reach + 1), mode="same") > 0
    return np.asarray(wide & used)


def coarse_geometry(geometry: ParallelGeometry) -> ParallelGeometry:
    """Geometry of a sinogram of which two samples became one, and of pixels twice as wide."""
    translations = (geometry.translations + 1) // 2
    return ParallelGeometry.centered(
        geometry.angles,
        translations,
        rotation_center=(geometry.rotation_center - 0.5) / 2,
        shifts=geometry.shifts / 2,
    )


def coarse_sinogram(sinogram: Float) -> Float:
    """Every two samples become one, weighted by `TAPS`: half the translations, rounded up.

    (angle, translation, window) -> (angle, coarse translation, window)
    """
    half = (sinogram.shape[1] + 1) // 2
    even, odd = sinogram[:, 0::2], sinogram[:, 1::2]
    coarse = even * sinogram.dtype.type(TAPS[1])
    pairs = odd.shape[1]
    coarse[:, :pairs] += TAPS[2] * odd
    coarse[:, 1:] += odd[:, : half - 1]
    coarse[:, :-1] += even[:, 1:]
    return coarse


def structure_scores(residual: Float, *, geometry: ParallelGeometry) -> Float64:
    """Largest deviation of a pixel in the image of each window, in units of the image's noise.

    The noise is judged by the median absolute deviation, which structure does not widen.

    Parameters
    ----------
    residual
        Coarse residual sinogram summed over windows, (angle, coarse translation, window).
        Projections without a finite sample are left out, other gaps are bridged.
    geometry
        The geometry of that, `coarse_geometry`.

    Returns
    -------
    scores
        (window,); 0 where there is nothing to reconstruct.
    """
    finite = np.isfinite(residual)
    usable = np.asarray(finite.any(axis=(1, 2)))
    if not usable.any():
        return np.zeros(residual.shape[2])
    if not finite.all():
        geometry = geometry.select(usable)
        residual = _without_gaps(residual[usable], finite[usable])
    A = load_projector("cpu", geometry)
    images = fbp(A, residual, filter_name=FILTER)
    return _largest_deviation(images, np.hypot(A.geometry.y[:, None], A.geometry.x))


def _without_gaps(residual: Float, finite: Bool) -> Float:
    bridged = bridge_gaps(residual, finite)
    return np.nan_to_num(bridged, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _largest_deviation(images: Float, radius: Float64) -> Float64:
    """Of the pixels that all projections see, (y, x, window), (y, x) -> (window,)."""
    inside = images[radius < max(1.0, radius.shape[0] / 2 - 1)]
    sample = np.ascontiguousarray(inside[:: max(1, inside.shape[0] // JUDGED)].T)
    middle = np.median(sample, axis=1)
    spread = SPREAD * np.median(np.abs(sample - middle[:, None]), axis=1)
    largest = np.maximum(inside.max(axis=0) - middle, middle - inside.min(axis=0))
    scores = np.divide(largest, spread, out=np.zeros(spread.shape), where=spread > 0)
    return np.asarray(scores)
