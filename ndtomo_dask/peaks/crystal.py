"""Maps of lattice parameters, strain, crystallite size and microstrain, from fitted peaks."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.kernels.fitting import diffraction
from ndtomo_dask.peaks.maps import (
    Axis,
    PerPeak,
    axis_of,
    check_names,
    check_positive,
    known_axis,
    labelled,
    map_peaks,
    peak_map,
    per_peak,
    shown,
    with_error,
)
from ndtomo_dask.schema import label
from ndtomo_dask.variables import (
    CRYSTALLITE_SIZE,
    LATTICE_PARAMETER,
    MICROSTRAIN,
    PEAK_CRYSTALLITE_SIZE,
    PEAK_FRACTION,
    PEAK_FWHM,
    PEAK_POSITION,
    PEAK_STRAIN,
)

System = Literal["cubic", "tetragonal", "hexagonal", "orthorhombic"]


def lattice_parameter(
    ds: xr.Dataset,
    hkl: Mapping[str, Sequence[int]],
    *,
    system: System = "cubic",
    scattering_angle: float | None = None,
) -> xr.Dataset:
    """Map the lattice parameters of a phase from the positions of its peaks, lazily.

    They are the weighted least squares of 1/d² = Σ f(h, k, l) p over the peaks named, with p the
    inverse squares of the parameters and weights from ``peak_position_error``. Peaks that were not
    fitted in a pixel are left out there; where too few are left, the result is NaN.

    Parameters
    ----------
    ds
        What `fit_peaks` returned.
    hkl
        Miller indices of the phase's peaks by their names, such as ``{"Ni 111": (1, 1, 1)}``.
    system
        ``"cubic"`` (a), ``"tetragonal"`` and ``"hexagonal"`` (a, c), or ``"orthorhombic"``
        (a, b, c).
    scattering_angle
        The fixed 2θ of the detector in degrees, where peaks were fitted on ``"energy"``.

    Returns
    -------
        ``ds`` with ``lattice_parameter`` and ``lattice_parameter_error ([time, z,] y, x,
        lattice)``, in Å.

    Raises
    ------
    SchemaError
        There are no peak positions with errors, or no wavelength where 2θ needs one.
    OptionError
        A peak that was not fitted, or indices that do not determine every parameter.
    """
    check_choice("system", system, diffraction.SYSTEMS)
    position, error = with_error(ds, PEAK_POSITION, verb="lattice_parameter")
    known = known_axis(ds, position, scattering_angle, verb="lattice_parameter")
    names = list(hkl)
    check_names(names, position, "hkl")
    rows = _metric(hkl, system)

    named = [array.sel(peak=names) for array in (position, error)]
    parameters = diffraction.SYSTEMS[system]
    out = {"value": 2, "lattice": len(parameters)}
    found = map_peaks(lattice_block, named, out, known=known, rows=rows)

    found = found.assign_coords(lattice=list(parameters))
    made = labelled(LATTICE_PARAMETER, found, "angstrom")
    given = {name: tuple(map(int, indices)) for name, indices in hkl.items()}
    return label(ds, made, step="lattice_parameter", hkl=given, system=system)


def strain(ds: xr.Dataset, reference: PerPeak) -> xr.Dataset:
    """Map the lattice strain d/d₀ - 1 of every peak from its position, lazily.

    Parameters
    ----------
    ds
        What `fit_peaks` returned.
    reference
        Position of each peak without strain, on the axis on which it was fitted: by the peaks'
        names, or an array along ``peak`` such as ``ds.peak_position.median(("y", "x"))``.

    Returns
    -------
        ``ds`` with ``peak_strain`` and ``peak_strain_error ([time, z,] y, x, peak)``, without unit;
        NaN for peaks without a reference, whose own error is left out.
    """
    position, error = with_error(ds, PEAK_POSITION, verb="strain")
    # Wavelength and scattering angle cancel: only a ratio of two q is taken.
    known = Axis(axis_of(position, verb="strain"), 1.0, 90.0)
    unstrained = per_peak(reference, position, "reference")

    sizes = {"value": 2, "peak": position.sizes["peak"]}
    found = map_peaks(strain_block, [position, error], sizes, unstrained, known=known)

    made = labelled(PEAK_STRAIN, found.assign_coords(peak=position.peak), "1")
    return label(ds, made, step="strain", reference=shown(reference))


def crystallite_size(
    ds: xr.Dataset,
    instrument_fwhm: PerPeak = 0.0,
    *,
    instrument_fraction: PerPeak = 0.0,
    shape_factor: float = 0.9,
    scattering_angle: float | None = None,
) -> xr.Dataset:
    """Map the crystallite size 2π K/Δq of every peak from its width, lazily (Scherrer 1918).

    The instrument's width is taken away as Voigt profiles do it: the Gaussian parts in squares, the
    Lorentzian parts as they are, both from ``peak_fwhm`` and ``peak_fraction`` (Thompson, Cox &
    Hastings, J. Appl. Cryst. 20, 79 (1987)). Strain is taken to be nil; `williamson_hall` is not.

    Parameters
    ----------
    ds
        What `fit_peaks` returned.
    instrument_fwhm
        Width of a peak of large, perfect crystals, on the axis on which peaks were fitted; a
        number, or one per peak. It is best fitted from a standard such as LaB6 or CeO2.
    instrument_fraction
        Lorentzian share of that peak.
    shape_factor
        K: 0.9 for the fwhm of round crystallites (Langford & Wilson, J. Appl. Cryst. 11, 102
        (1978)).
    scattering_angle
        The fixed 2θ of the detector in degrees, where peaks were fitted on ``"energy"``.

    Returns
    -------
        ``ds`` with ``peak_crystallite_size`` and its ``…_error ([time, z,] y, x, peak)`` in Å. NaN
        where a peak is no wider than the instrument's; errors are those of the fwhm alone.
    """
    maps, known, own = _widths(
        ds, instrument_fwhm, instrument_fraction, scattering_angle, verb="crystallite_size"
    )
    check_positive("shape_factor", shape_factor)

    sizes = {"value": 2, "peak": maps[0].sizes["peak"]}
    found = map_peaks(size_block, maps, sizes, *own, known=known, shape_factor=shape_factor)

    made = labelled(PEAK_CRYSTALLITE_SIZE, found.assign_coords(peak=maps[0].peak), "angstrom")
    given = {"instrument_fwhm": shown(instrument_fwhm), "shape_factor": shape_factor}
    return label(ds, made, step="crystallite_size", **given)


def williamson_hall(
    ds: xr.Dataset,
    instrument_fwhm: PerPeak = 0.0,
    *,
    instrument_fraction: PerPeak = 0.0,
    peaks: Sequence[str] | None = None,
    profile: Literal["lorentzian", "gaussian"] = "lorentzian",
    shape_factor: float = 0.9,
    scattering_angle: float | None = None,
) -> xr.Dataset:
    """Map crystallite size and microstrain from the widths of several peaks of a phase, lazily.

    Size widens all peaks alike in q, strain in proportion to q: Δq = 2π K/L + 2 ε q, with Δ(2θ) =
    4 ε tan θ (Williamson & Hall, Acta Metall. 1, 22 (1953)). L and ε are weighted least squares
    over the peaks of a pixel.

    Parameters
    ----------
    ds
        What `fit_peaks` returned.
    instrument_fwhm, instrument_fraction, shape_factor, scattering_angle
        As of `crystallite_size`.
    peaks
        Names of the phase's peaks; all without it.
    profile
        Which of the two terms add: as ``"lorentzian"`` widths do, or their squares as
        ``"gaussian"`` ones do.

    Returns
    -------
        ``ds`` with ``crystallite_size`` in Å and ``microstrain``, ``([time, z,] y, x)``, and their
        ``…_error``. A term that comes out negative is NaN, and so are both with fewer than two
        peaks.
    """
    check_choice("profile", profile, ("lorentzian", "gaussian"))
    check_positive("shape_factor", shape_factor)
    maps, known, own = _widths(
        ds, instrument_fwhm, instrument_fraction, scattering_angle, verb="williamson_hall"
    )
    names = [str(name) for name in maps[0].peak.values] if peaks is None else list(peaks)
    check_names(names, maps[0], "peaks")
    if len(names) < 2:
        raise OptionError(f"williamson_hall needs two peaks or more of a phase, not {names}.")

    chosen = [array.sel(peak=names) for array in (*maps, *own)]
    options = {"known": known, "shape_factor": shape_factor, "squares": profile == "gaussian"}
    found = map_peaks(williamson_hall_block, chosen[:4], {"value": 4}, *chosen[4:], **options)

    size, micro = found.isel(value=slice(0, 2)), found.isel(value=slice(2, 4))
    made = labelled(CRYSTALLITE_SIZE, size, "angstrom") | labelled(MICROSTRAIN, micro, "1")
    given = {"instrument_fwhm": shown(instrument_fwhm), "shape_factor": shape_factor,
             "profile": profile, "peaks": names}  # fmt: skip
    return label(ds, made, step="williamson_hall", **given)


def lattice_block(
    position: np.ndarray, error: np.ndarray, *, known: Axis, rows: np.ndarray
) -> np.ndarray:
    """Lattice parameters and errors, (…, peak) -> (…, value, lattice)."""
    q, slope = _q(position, known)
    found = diffraction.lattice_parameters(q, slope * error, rows)
    return np.stack(found, axis=-2).astype(position.dtype)


def strain_block(
    position: np.ndarray, error: np.ndarray, unstrained: np.ndarray, *, known: Axis
) -> np.ndarray:
    """Strain d/d₀ - 1 and its error, (…, peak) -> (…, value, peak)."""
    q, slope = _q(position, known)
    ratio = _q(unstrained, known)[0] / q
    return np.stack([ratio - 1, ratio * slope * error / q], axis=-2).astype(position.dtype)


def size_block(
    position: np.ndarray, fwhm: np.ndarray, error: np.ndarray, fraction: np.ndarray,
    own: np.ndarray, own_fraction: np.ndarray, *, known: Axis, shape_factor: float,
) -> np.ndarray:  # fmt: skip
    """Scherrer's size and its error, (…, peak) -> (…, value, peak)."""
    _, width, spread = _own_widths(position, fwhm, error, fraction, own, own_fraction, known)
    found = diffraction.scherrer_size(width, spread, shape_factor)
    return np.stack(found, axis=-2).astype(fwhm.dtype)


def williamson_hall_block(
    position: np.ndarray, fwhm: np.ndarray, error: np.ndarray, fraction: np.ndarray,
    own: np.ndarray, own_fraction: np.ndarray, *, known: Axis, shape_factor: float, squares: bool,
) -> np.ndarray:  # fmt: skip
    """Size, its error, microstrain and its error, (…, peak) -> (…, value)."""
    q, width, spread = _own_widths(position, fwhm, error, fraction, own, own_fraction, known)
    found = diffraction.williamson_hall_line(q, width, spread, shape_factor, squares=squares)
    return np.stack(found, axis=-1).astype(fwhm.dtype)


def _metric(hkl: Mapping[str, Sequence[int]], system: str) -> np.ndarray:
    for name, indices in hkl.items():
        if np.shape(indices) != (3,) or not any(indices):
            raise OptionError(f"hkl of peak {name!r} is {indices!r}; it must be like (1, 1, 1).")
    rows = diffraction.metric_rows(list(hkl.values()), system)
    parameters = diffraction.SYSTEMS[system]
    if np.linalg.matrix_rank(rows) < len(parameters):
        raise OptionError(
            f"the peaks {', '.join(hkl)} do not determine {', '.join(parameters)} of a {system} "
            f"cell: name more of them, with other indices."
        )
    return rows


def _widths(
    ds: xr.Dataset, instrument_fwhm: PerPeak, instrument_fraction: PerPeak,
    scattering_angle: float | None, *, verb: str,
) -> tuple[list[xr.DataArray], Axis, list[xr.DataArray]]:  # fmt: skip
    """Positions, widths, their errors and fractions; their axis; the instrument's own."""
    position = peak_map(ds, PEAK_POSITION, verb=verb)
    fwhm, error = with_error(ds, PEAK_FWHM, verb=verb)
    known = known_axis(ds, position, scattering_angle, verb=verb)
    own = per_peak(instrument_fwhm, position, "instrument_fwhm")
    share = per_peak(instrument_fraction, position, "instrument_fraction")
    if bool((own < 0).any()) or bool(((share < 0) | (share > 1)).any()):
        raise OptionError(
            "instrument_fwhm must be 0 or more, and instrument_fraction between 0 and 1."
        )
    fraction = peak_map(ds, PEAK_FRACTION, verb=verb)
    return [position, fwhm, error, fraction], known, [own, share]


def _q(position: np.ndarray, known: Axis) -> tuple[np.ndarray, np.ndarray]:
    axis, wavelength, angle = known
    exact = np.asarray(position, dtype=np.float64)
    return diffraction.q_and_slope(exact, axis, wavelength=wavelength, scattering_angle=angle)


def _own_widths(
    position: np.ndarray, fwhm: np.ndarray, error: np.ndarray, fraction: np.ndarray,
    own: np.ndarray, own_fraction: np.ndarray, known: Axis,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Momentum transfers, widths of the sample's own profiles there, and their errors."""
    q, slope = _q(position, known)
    exact = [np.asarray(array, dtype=np.float64) for array in (fwhm, fraction, own, own_fraction)]
    width, rate = diffraction.sample_width(*np.broadcast_arrays(*exact))
    return q, slope * width, slope * rate * error
