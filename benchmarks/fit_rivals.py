"""Other programs' bounded fits of one to five pseudo-Voigts on a line, spectrum by spectrum.

Each gets the spectra, bounds and starts of a `fit_cases.Case`, and is used as its manual says.
Those for several peaks are SciPy's; the others are raced on one.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.fit_cases import NAMES, Case, Float64
from benchmarks.truth import pseudo_voigt

HYPERSPY_NAMES = {"position": "center", "fraction": "share"}
"""Names in an expression of HyperSpy, where others have a meaning of their own."""


def curve_fit(case: Case, count: int) -> Float64:
    """SciPy's curve_fit as most scripts call it: bounds, derivatives by differences."""
    from scipy.optimize import curve_fit as fit

    line, peaks = np.linspace(-1, 1, case.x.size), case.truth.shape[1]
    low, high = case.box(peaks)

    def model(x: Any, *p: float) -> Any:
        total = p[-2] + p[-1] * line
        for k in range(peaks):
            total = total + pseudo_voigt(x, *map(np.asarray, p[4 * k : 4 * k + 4]))
        return total

    found = np.full(count, np.inf)
    for i, (y, start) in enumerate(zip(case.data[:count], case.start, strict=False)):
        p0 = np.clip(np.r_[start.ravel(), np.median(y), 0.0], low, high)
        with contextlib.suppress(RuntimeError):  # it gives up on some
            values = fit(model, case.x, y, p0, bounds=(low, high))[0]
            found[i] = np.square(y - model(case.x, *values)).sum()
    return found


def lmfit(case: Case, count: int) -> Float64:
    """Model.fit of lmfit, one spectrum after the other."""
    from lmfit.models import (
        LinearModel,
        PseudoVoigtModel,
    )

    model, low, high = PseudoVoigtModel(prefix="p_") + LinearModel(prefix="b_"), *case.box(1)
    found = []
    for y, (start,) in zip(case.data[:count], case.start, strict=False):
        values = model.make_params(
            p_amplitude={"value": start[0], "min": 0},
            p_center={"value": start[1], "min": low[1], "max": high[1]},
            p_sigma={"value": start[2] / 2, "min": low[2] / 2, "max": high[2] / 2},
            p_fraction={"value": start[3], "min": 0, "max": 1},
            b_slope=0.0, b_intercept=float(np.median(y)),
        )  # fmt: skip
        found.append(model.fit(y, values, x=case.x).chisqr)
    return np.array(found)


def xarray_curvefit(case: Case, count: int) -> Float64:
    """DataArray.curvefit, with a start per pixel."""
    data = xr.DataArray(case.data[:count], dims=("pixel", "channel"), coords={"channel": case.x})

    def model(x: Any, area: Any, position: Any, fwhm: Any, fraction: Any, a: Any, b: Any) -> Any:
        shape = pseudo_voigt(x, *map(np.asarray, (area, position, fwhm, fraction)))
        return shape + a + b * x

    start: dict[str, Any] = {
        name: xr.DataArray(case.start[:count, 0, i], dims="pixel") for i, name in enumerate(NAMES)
    }
    start |= {"a": data.median("channel"), "b": 0.0}
    box = np.stack(case.box(1), axis=1)[:4]
    bounds: dict[str, Any] = {name: tuple(pair) for name, pair in zip(NAMES, box, strict=True)}
    fitted = data.curvefit("channel", model, p0=start, bounds=bounds, errors="ignore")
    values = fitted.curvefit_coefficients.values
    shown = model(case.x, *values.T[..., None])
    return np.asarray(np.square(case.data[:count] - shown).sum(axis=1))


def hyperspy(case: Case, count: int) -> Float64:
    """multifit of HyperSpy, bounded, with starts in its maps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import hyperspy.api as hs

        hs.preferences.General.show_progressbar = False
        signal = hs.signals.Signal1D(case.data[:count])
        model = signal.create_model()
        peak = hs.model.components1D.Expression(
            "area*(share*2/(pi*fwhm)/(1+4*((x-center)/fwhm)**2)"
            "+(1-share)*2/fwhm*sqrt(log(2)/pi)*exp(-4*log(2)*((x-center)/fwhm)**2))",
            name="peak", area=1.0, center=1.0, fwhm=7.0, share=0.5,
        )  # fmt: skip
        line = hs.model.components1D.Expression("a+b*x", name="line", a=0.0, b=0.0)
        model.extend([peak, line])
        low, high = case.box(1)
        for i, name in enumerate(NAMES):
            one = getattr(peak, HYPERSPY_NAMES.get(name, name))
            one.bmin = float(low[i])
            one.bmax = float(high[i]) if np.isfinite(high[i]) else None
            one.map["values"], one.map["is_set"] = case.start[:count, 0, i], True
        line.a.map["values"], line.a.map["is_set"] = np.median(case.data[:count], axis=1), True
        model.multifit(optimizer="trf", bounded=True, iterpath="serpentine")
        shown = model.as_signal().data
    return np.asarray(np.square(case.data[:count] - shown).sum(axis=1))


RIVALS: dict[str, Callable[[Case, int], Float64]] = {
    "xarray curvefit": xarray_curvefit,
    "lmfit": lmfit,
    "HyperSpy multifit": hyperspy,
}
"""Those that are raced on one peak, beside SciPy's."""


def ndtomo(case: Case, count: int) -> Float64:
    """Positions by fit_gaussian_map of nDTomo, on a line through the ends, as in its tutorial.

    Its start is a width of 0.01, so that its axis has 0.005 a channel.
    """
    from nDTomo.analysis.peaks import (
        fit_gaussian_map,
    )

    data, step = case.data[:count], 0.005
    line = data[:, :1] + (data[:, -1:] - data[:, :1]) * case.x / case.x[-1]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        found = fit_gaussian_map((data - line)[None], step * case.x, sigma_bounds=(step, 40 * step))
    return np.asarray(found[0, :, 1] / step)


def midas_dt(case: Case, count: int) -> Float64:
    """Positions by fit_lineout of midas-dt: one width for both halves, a flat background."""
    from midas_dt.peakfit import fit_lineout

    return np.array([fit_lineout(case.x, y).values[0, 0] for y in case.data[:count]])


PACKAGED: dict[str, Callable[[Case, int], Float64]] = {
    "nDTomo fit_gaussian_map": ndtomo,
    "midas-dt fit_lineout": midas_dt,
}
"""Fits that come with their own model of one peak, of 3 and 4 parameters; ours has 6."""
