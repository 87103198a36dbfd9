"""Every dimension, coordinate and variable of the data model, defined once.

The reference page of the documentation is generated from these tables.
"""

from dataclasses import dataclass

ANGLE, TRANSLATION, CHANNEL = "angle", "translation", "channel"
Y, X, Z, TIME = "y", "x", "z", "time"
LEADING = (TIME, Z)
"""Optional dimensions that stand before the core ones; slices and frames are independent."""


@dataclass(frozen=True)
class Coordinate:
    """A labelled axis: the dimension it lies on, its unit, and its name in words."""

    dimension: str
    units: str
    long_name: str


@dataclass(frozen=True)
class Variable:
    """A quantity of the data model."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    additive: bool = True
    """Whether it sums along a ray. Only additive quantities may be back-projected."""


COORDINATES = {
    "tth": Coordinate(CHANNEL, "degree", "scattering angle 2θ"),
    "q": Coordinate(CHANNEL, "1/angstrom", "momentum transfer"),
    "d": Coordinate(CHANNEL, "angstrom", "lattice spacing"),
    "energy": Coordinate(CHANNEL, "keV", "photon energy"),
    "channel": Coordinate(CHANNEL, "1", "channel number"),
    "angle": Coordinate(ANGLE, "degree", "projection angle"),
    "translation": Coordinate(TRANSLATION, "mm", "sample position across the beam"),
    "z": Coordinate(Z, "mm", "slice height"),
    "time": Coordinate(TIME, "s", "frame time"),
    "y": Coordinate(Y, "mm", "position along y"),
    "x": Coordinate(X, "mm", "position along x"),
}
SPECTRAL_AXES = ("tth", "q", "d", "energy")

_SINOGRAM, _VOLUME = (ANGLE, TRANSLATION, CHANNEL), (Y, X, CHANNEL)
_PEAK_MAP, _COMPONENT_MAP = (Y, X, "peak"), (Y, X, "component")

SINOGRAM = Variable("sinogram", _SINOGRAM, "count", "intensity per projection")
SINOGRAM_VARIANCE = Variable("sinogram_variance", _SINOGRAM, "count^2", "variance of the sinogram")
PROJECTED_SINOGRAM = Variable(
    "projected_sinogram", _SINOGRAM, "count", "sinogram that the volume would give"
)
MONITOR = Variable("monitor", (ANGLE, TRANSLATION), "count", "incident flux")
TRANSMISSION = Variable(
    "transmission",
    (ANGLE, TRANSLATION),
    "1",
    "share of a ray that passes the sample",
    additive=False,
)
ATTENUATION = Variable("attenuation", (Y, X), "1/mm", "linear attenuation coefficient")
FLAT = Variable("flat", (TRANSLATION, CHANNEL), "count", "intensity without sample")
DARK = Variable("dark", (TRANSLATION, CHANNEL), "count", "intensity without beam")
MASK = Variable(
    "mask", _SINOGRAM, "1", "True where data are ignored; any of the dimensions", additive=False
)
FRAMES = Variable("frames", ("frame", "row", "column"), "count", "detector frames")
PIXEL_MASK = Variable(
    "pixel_mask", ("row", "column"), "1", "True where a pixel of the detector is ignored",
    additive=False,
)  # fmt: skip
FILLED = Variable(
    "filled", _SINOGRAM, "1", "True where data were filled; any of the dimensions", additive=False
)
BAD_CHANNEL = Variable("bad_channel", (CHANNEL,), "1", "good, hot or dead", additive=False)
FRAME_NUMBER = Variable(
    "frame_number", (ANGLE, TRANSLATION), "1", "frame of a sample, -1 where there is none",
    additive=False,
)  # fmt: skip
AIR = Variable("air", (ANGLE, CHANNEL), "count", "scatter of the path beside the sample")
PROJECTION_SCALE = Variable("projection_scale", (ANGLE,), "1", "relative flux", additive=False)
TRANSLATION_SCALE = Variable(
    "translation_scale", (ANGLE, TRANSLATION), "1", "gain of a translation", additive=False
)
ROTATION_CENTER = Variable(
    "rotation_center", (), "1", "rotation axis in translation steps", additive=False
)
PROJECTION_SHIFT = Variable(
    "projection_shift", (ANGLE,), "1", "shift in translation steps", additive=False
)
VOLUME = Variable("volume", _VOLUME, "count/mm", "reconstructed intensity")
VOLUME_VARIANCE = Variable("volume_variance", _VOLUME, "count^2/mm^2", "variance of the volume")
VOLUME_WITHOUT_BACKGROUND = Variable(
    "volume_without_background", _VOLUME, "count/mm", "volume less its background"
)
POLAR_VOLUME = Variable(
    "polar_volume", ("radius", "azimuth", CHANNEL), "count/mm", "intensity by radius and azimuth"
)
CARTESIAN_VOLUME = Variable(
    "cartesian_volume", _VOLUME, "count/mm", "intensity by y and x, from radius and azimuth"
)
HELD_OUT_MISFIT = Variable(
    "held_out_misfit", ("candidate", CHANNEL), "count^2", "mean square error of unseen projections",
    additive=False,
)  # fmt: skip
BEST_ITERATIONS = Variable(
    "best_iterations", (), "1", "iterations of least held-out misfit", additive=False
)
BEST_REGULARIZATION = Variable(
    "best_regularization", (), "1", "regularization of least held-out misfit", additive=False
)
IMAGE = Variable("image", (Y, X), "count/mm", "image")
SPECTRUM = Variable("spectrum", (CHANNEL,), "count/mm", "spectrum")
COMPONENT_SPECTRUM = Variable(
    "component_spectrum", ("component", CHANNEL), "1", "component spectrum"
)
COMPONENT_MEAN = Variable("component_mean", (CHANNEL,), "count/mm", "mean spectrum")
MISSING_SAMPLES = Variable("missing_samples", (CHANNEL,), "1", "samples that were not finite")
REPLACED_SAMPLES = Variable("replaced_samples", (CHANNEL,), "1", "samples that were replaced")
COMPONENT_MAP = Variable("component_map", _COMPONENT_MAP, "count/mm", "amount of a component")
COMPONENT_RESIDUAL = Variable(
    "component_residual", (Y, X), "count/mm", "root mean square left over", additive=False
)
SPECTRAL_GRAM = Variable(
    "spectral_gram", (CHANNEL, "other_channel"), "count^2/mm^2", "sum of products of channels",
    additive=False,
)  # fmt: skip
SPECTRAL_SUM = Variable("spectral_sum", (CHANNEL,), "count/mm", "sum of spectra, less the shift")
SPECTRAL_SHIFT = Variable("spectral_shift", (CHANNEL,), "count/mm", "shift of the sums")
SPECTRAL_SCALE = Variable(
    "spectral_scale", (CHANNEL,), "1", "what channels are divided by", additive=False
)
CLUSTER_SPECTRUM = Variable(
    "cluster_spectrum", ("cluster", CHANNEL), "count/mm", "mean spectrum of a cluster"
)
CLUSTER_LABEL = Variable("cluster_label", (Y, X), "1", "nearest cluster or -1", additive=False)
CLUSTER_PROBABILITY = Variable(
    "cluster_probability", (Y, X, "cluster"), "1", "probability of a cluster", additive=False
)
CLUSTER_FACTOR = Variable(
    "cluster_factor", ("cluster", "axis", "other_axis"), "mm/count",
    "factor of the inverse covariance of a cluster", additive=False,
)  # fmt: skip
SPECTRAL_BASIS = Variable(
    "spectral_basis", ("component", CHANNEL), "1", "spectrum that a component stands for"
)
SPECTRAL_WEIGHT = Variable(
    "spectral_weight", ("component", CHANNEL), "1", "share of a channel in a component"
)
SPECTRAL_SINOGRAM = Variable(
    "spectral_sinogram", (ANGLE, TRANSLATION, "component"), "count", "sinogram of mixed channels"
)
SPECTRAL_MAP = Variable("spectral_map", _COMPONENT_MAP, "count/mm", "image of mixed channels")
KEPT_CHANNEL = Variable(
    "kept_channel", (CHANNEL,), "1", "True where a channel is not mixed", additive=False
)
RESIDUAL_SCORE = Variable(
    "residual_score", (CHANNEL,), "1", "structure that the basis missed, in noise", additive=False
)
PEAK_AREA = Variable("peak_area", _PEAK_MAP, "count/mm", "integral of the peak")
PEAK_POSITION = Variable("peak_position", _PEAK_MAP, "1", "position of the peak", additive=False)
PEAK_FWHM = Variable("peak_fwhm", _PEAK_MAP, "1", "full width at half maximum", additive=False)
PEAK_FRACTION = Variable("peak_fraction", _PEAK_MAP, "1", "Lorentzian share", additive=False)
PEAK_ASYMMETRY = Variable(
    "peak_asymmetry", _PEAK_MAP, "1", "how much wider the side of larger values is", additive=False
)
PEAK_GAUSSIAN_SQUARE = Variable(
    "peak_gaussian_square", _PEAK_MAP, "1", "squared width of the Gaussian part", additive=False
)
PEAK_LORENTZIAN_FWHM = Variable(
    "peak_lorentzian_fwhm", _PEAK_MAP, "1", "width of the Lorentzian part", additive=False
)
PEAK_BACKGROUND = Variable(
    "peak_background", (Y, X, "window", "term"), "count/mm", "coefficient of the background"
)
PEAK_BACKGROUND_PATTERN = Variable(
    "peak_background_pattern", ("pattern", CHANNEL), "1", "spectrum of a background"
)
PEAK_STATUS = Variable("peak_status", _PEAK_MAP, "1", "outcome of the fit", additive=False)
PEAK_ITERATIONS = Variable(
    "peak_iterations", _PEAK_MAP, "1", "iterations of the fit", additive=False
)
PEAK_AT_BOUND = Variable(
    "peak_at_bound", _PEAK_MAP, "1", "bit mask of parameters at a bound", additive=False
)
PEAK_REDUCED_CHI_SQUARE = Variable(
    "peak_reduced_chi_square", _PEAK_MAP, "1", "residual variance of the fit", additive=False
)

PEAK_ERRORS = tuple(
    Variable(
        f"{peak.name}_error",
        _PEAK_MAP,
        peak.units,
        f"standard error: {peak.long_name}",
        additive=False,
    )
    for peak in (PEAK_AREA, PEAK_POSITION, PEAK_FWHM, PEAK_FRACTION, PEAK_ASYMMETRY,
                 PEAK_GAUSSIAN_SQUARE, PEAK_LORENTZIAN_FWHM)
)  # fmt: skip

FITTED_MODEL = Variable("fitted_model", _VOLUME, "count/mm", "fitted peaks and background")
FITTED_RESIDUAL = Variable("fitted_residual", _VOLUME, "count/mm", "data less the fitted model")
FITTED_BACKGROUND = Variable("fitted_background", _VOLUME, "count/mm", "fitted background")
FITTED_COMPONENT = Variable(
    "fitted_component", (Y, X, "peak", CHANNEL), "count/mm", "fitted peak by itself"
)

PEAK_STRAIN = Variable("peak_strain", _PEAK_MAP, "1", "lattice strain of a peak", additive=False)
PEAK_CRYSTALLITE_SIZE = Variable(
    "peak_crystallite_size", _PEAK_MAP, "angstrom", "size from the width of a peak", additive=False
)
LATTICE_PARAMETER = Variable(
    "lattice_parameter", (Y, X, "lattice"), "angstrom", "edge of the unit cell", additive=False
)
CRYSTALLITE_SIZE = Variable(
    "crystallite_size", (Y, X), "angstrom", "size from the widths of all peaks", additive=False
)
MICROSTRAIN = Variable(
    "microstrain", (Y, X), "1", "spread of the lattice strain inside a pixel", additive=False
)
CRYSTAL_ERRORS = tuple(
    Variable(f"{one.name}_error", one.dims, one.units, f"standard error: {one.long_name}",
             additive=False)
    for one in (PEAK_STRAIN, PEAK_CRYSTALLITE_SIZE, LATTICE_PARAMETER, CRYSTALLITE_SIZE,
                MICROSTRAIN)
)  # fmt: skip

MOMENT_AREA = Variable("moment_area", _PEAK_MAP, "count/mm", "sum over the peak")
MOMENT_FIRST = Variable("moment_first", _PEAK_MAP, "count/mm", "sum of intensity × distance")
MOMENT_SECOND = Variable("moment_second", _PEAK_MAP, "count/mm", "sum of intensity × distance²")
MOMENT_POSITION = Variable(
    "moment_position", _PEAK_MAP, "1", "center of mass of the peak", additive=False
)
MOMENT_WIDTH = Variable(
    "moment_width", _PEAK_MAP, "1", "standard deviation of the peak", additive=False
)

_REFERENCE_MAP = (Y, X, "reference")
REFERENCE_PATTERN = Variable("reference_pattern", ("reference", CHANNEL), "1", "known spectrum")
REFERENCE_AMOUNT = Variable(
    "reference_amount", _REFERENCE_MAP, "count/mm", "amount of a known spectrum"
)
REFERENCE_AMOUNT_ERROR = Variable(
    "reference_amount_error", _REFERENCE_MAP, "count/mm", "standard error: amount", additive=False
)
REFERENCE_REDUCED_CHI_SQUARE = Variable(
    "reference_reduced_chi_square", (Y, X), "1", "residual variance of the fit", additive=False
)
REFERENCE_STATUS = Variable(
    "reference_status", (Y, X), "1", "outcome of the fit of references", additive=False
)
REFERENCE_FRACTION = Variable(
    "reference_fraction", _REFERENCE_MAP, "1", "share of a reference", additive=False
)
REFERENCE_FRACTION_ERROR = Variable(
    "reference_fraction_error", _REFERENCE_MAP, "1", "standard error: share", additive=False
)

VARIABLES = {
    value.name: value
    for value in (*tuple(vars().values()), *PEAK_ERRORS, *CRYSTAL_ERRORS)
    if isinstance(value, Variable)
}
