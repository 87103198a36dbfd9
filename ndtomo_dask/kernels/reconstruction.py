"""One block of channels, from sinogram to volume: the method, and all that may be missing in it.

Here a method's name meets its solver and its options, and samples that are not finite meet what
the method can do about them: filtered back-projection bridges them, the others give them no weight.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import OptionError, check_choice
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.gaps import bridge_gaps, channels_by_projections
from ndtomo_dask.kernels.projectors import MODEL, load_projector
from ndtomo_dask.kernels.variance import fbp_variance, variance_by_sampling

Block = NDArray[np.floating]
Bool = NDArray[np.bool_]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """What a method is asked with."""

    solve: Callable[..., Any]
    options: frozenset[str]
    linear: bool = False
    """Whether it commutes with mixing channels, by itself; an option may change that."""
    coupled: bool = False
    """Whether its result depends on which channels stand together."""
    needed: frozenset[str] = frozenset()

    @property
    def iterative(self) -> bool:
        """Whether it takes steps, and weights of samples."""
        return "iterations" in self.options


_STEPS = frozenset({"iterations", "support", "weighted", "stop", "start"})
_SIMULTANEOUS = _STEPS | {"nonnegative", "relaxation"}
_VARIATION = _STEPS | {"nonnegative", "regularization"}
_WEIGHT = frozenset({"regularization"})

METHODS = {
    "fbp": Method(solvers.fbp, frozenset({"filter", "cutoff", "support"}), linear=True),
    "sirt": Method(solvers.sirt, _SIMULTANEOUS | {"accelerated", "subsets"}, linear=True),
    "os_sirt": Method(solvers.os_sirt, _SIMULTANEOUS | {"subsets"}, linear=True),
    "sart": Method(solvers.sart, _SIMULTANEOUS, linear=True),
    "cgls": Method(solvers.cgls, _STEPS | {"regularization"}),
    "mlem": Method(solvers.mlem, _STEPS),
    "osem": Method(solvers.osem, _STEPS | {"subsets"}),
    "tv": Method(solvers.tv, _VARIATION, needed=_WEIGHT),
    "vectorial_tv": Method(solvers.vectorial_tv, _VARIATION, coupled=True, needed=_WEIGHT),
    "nuclear": Method(solvers.nuclear, _VARIATION, coupled=True, needed=_WEIGHT),
}
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "iterations": (lambda value: value >= 1, "a number of 1 or more"),
    "subsets": (lambda value: value >= 1, "a number of 1 or more"),
    "relaxation": (lambda value: 0 < value < 2, "a number between 0 and 2"),
    "regularization": (lambda value: value >= 0, "a number of 0 or more"),
    "cutoff": (lambda value: 0 < value <= 1, "a share, more than 0 and at most 1"),
}


def given_options(method: str, options: Options) -> dict[str, Any]:
    """Options that are given, if the method has them, or the reason why not.

    >>> given_options("fbp", {"filter": "hann", "iterations": None})
    {'filter': 'hann'}
    """
    check_choice("method", method, METHODS)
    known = METHODS[method]
    given = {
        name: value for name, value in options.items() if not (value is None or value is False)
    }
    for name in given:
        if name not in known.options:
            others = [other for other, made in METHODS.items() if name in made.options]
            raise OptionError(
                f"{name}={given[name]!r} is for method={' or '.join(map(repr, others))}, "
                f"not for {method!r}."
            )
        if name in _RANGES and not _RANGES[name][0](given[name]):
            raise OptionError(f"{name}={given[name]} must be {_RANGES[name][1]}.")
    for name in known.needed - set(given):
        raise OptionError(f"method={method!r} needs {name}: pass {name}=10.0, or find one first.")
    if "stop" in given:
        given["stop"] = _stopping(given["stop"])
    return given


def _stopping(rules: Any) -> solvers.Stopping:
    names = ("residual", "change", "discrepancy")
    if not isinstance(rules, Mapping) or not rules or not set(rules) <= set(names):
        raise OptionError(
            f"stop={rules!r} must say when to stop, such as stop={{'change': 0.001}}: "
            f"known are {', '.join(names)}."
        )
    return solvers.Stopping(**rules)


def reconstruct_block(
    sinogram: Block,
    *beside: Block,
    geometry: ParallelGeometry,
    method: str,
    options: Options,
    backend: str = "auto",
    step: float = 1.0,
) -> Block:
    """Reconstruct one block, (angle, translation, channel) -> (y, x, channel).

    Parameters
    ----------
    sinogram
        Line integrals; float32, float64 or counts. What is not finite is missing.
    beside
        The variance of the sinogram, if ``options`` say ``weighted``; then a volume to start from,
        if they have ``start``.
    geometry
        Of the rays and the grid.
    method, options
        A name in `METHODS`, and what `given_options` returned for it.
    backend
        Name of the projector.
    step
        Translation step in mm; the volume is per mm.

    Returns
    -------
    Density per mm; a channel without any sample is NaN.
    """
    sinogram = _floating(sinogram)
    finite = np.isfinite(sinogram)
    if METHODS[method].iterative:
        volume = _iterate(sinogram, finite, beside, geometry, method, options, backend, step)
    else:
        volume = _back_project(sinogram, finite, geometry, options, backend)
    volume /= sinogram.dtype.type(step)
    return volume


def _floating(block: Block) -> Block:
    wanted = block.dtype if block.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    return np.asarray(block, dtype=wanted)


def _back_project(
    sinogram: Block, finite: Bool, geometry: ParallelGeometry, options: Options, backend: str
) -> Block:
    """Filter and back-project; what is missing is bridged, or left out projection by projection."""

    def solve(A: Any, part: Block) -> Block:
        return np.asarray(solvers.fbp(A, part, **_named(options)))

    if finite.all():
        return solve(load_projector(backend, geometry), sinogram)
    volume = np.full((*geometry.shape, sinogram.shape[2]), np.nan, dtype=sinogram.dtype)
    for some, usable, channels in _usable_parts(finite):
        A = load_projector(backend, geometry.select(usable))
        volume[..., channels] = solve(A, bridge_gaps(sinogram[some], finite[some]))
    return volume


def _named(options: Options) -> dict[str, Any]:
    """Options of a solver, by its names for them."""
    named = {"filter": "filter_name"}
    return {named.get(name, name): options[name] for name in options if name != "weighted"}


def _usable_parts(finite: Bool) -> Any:
    """Yield parts of a block whose projections are all usable: an index, projections, channels."""
    whole = np.ones(finite.shape[1], dtype=bool)
    for usable, channels in channels_by_projections(finite):
        if usable.any():
            yield np.ix_(usable, whole, channels), usable, channels


def _iterate(
    sinogram: Block,
    finite: Bool,
    beside: tuple[Block, ...],
    geometry: ParallelGeometry,
    method: str,
    options: Options,
    backend: str,
    step: float,
) -> Block:
    """Solve step by step; a missing sample has no weight, and need not be made up."""
    asked = _named(options)
    if "weighted" in options:
        variance, beside = beside[0], beside[1:]
        asked["weights"] = weights = _weights(variance, finite, sinogram.dtype)
        if METHODS[method].coupled:
            asked["scales"] = _noise(weights)
    elif not finite.all():
        asked["mask"] = ~finite
    if not finite.all():
        sinogram = np.where(finite, sinogram, sinogram.dtype.type(0))
    if asked.pop("start", False):
        asked["x0"] = np.asarray(beside[0], dtype=sinogram.dtype) * sinogram.dtype.type(step)
    A = load_projector(backend, geometry, MODEL)
    volume = np.asarray(METHODS[method].solve(A, sinogram, **asked))
    volume[..., ~finite.any(axis=(0, 1))] = np.nan
    return volume


def _weights(variance: Block, finite: Bool, dtype: np.dtype) -> Block:
    """Reciprocal of the variance, and 0 where there is no sample or its variance is not known."""
    known = finite & np.isfinite(variance) & (variance > 0)
    return np.divide(1.0, variance, out=np.zeros(variance.shape, dtype=dtype), where=known)


def _noise(weights: Block) -> Block:
    """Noise of each channel by its mean weight, (angle, translation, channel) -> (channel,).

    In units of it edges of all channels count alike, and the weight of their penalty is a number.
    """
    mean = weights.mean(axis=(0, 1), dtype=np.float64)
    return np.asarray(1 / np.sqrt(np.where(mean > 0, mean, 1)), dtype=weights.dtype)


def variance_block(
    sinogram: Block,
    variance: Block,
    *beside: Block,
    geometry: ParallelGeometry,
    method: str,
    options: Options,
    samples: int,
    backend: str = "auto",
    step: float = 1.0,
) -> Block:
    """Variance of `reconstruct_block`'s volume, of the same shape, per mm².

    Exact for filtered back-projection (`fbp_variance`), where a bridged sample is taken to have the
    variance of its neighbors; otherwise that of ``samples`` volumes (`variance_by_sampling`).
    """
    sinogram = _floating(sinogram)
    variance = np.asarray(variance, dtype=sinogram.dtype)
    if not METHODS[method].iterative:
        return _fbp_variance(np.isfinite(sinogram), variance, geometry, options) / step**2

    weighted = "weighted" in options

    def solve(noisy: Block) -> Block:
        extra = (variance, *beside) if weighted else beside
        return reconstruct_block(
            noisy, *extra, geometry=geometry, method=method, options=options, backend=backend,
            step=step,
        )  # fmt: skip

    found = variance_by_sampling(solve, sinogram, variance, samples=samples)
    return np.asarray(found.variance)


def _fbp_variance(
    finite: Bool, variance: Block, geometry: ParallelGeometry, options: Options
) -> Block:
    asked = {name: value for name, value in _named(options).items() if name != "support"}
    known = finite & np.isfinite(variance)
    if known.all():
        return fbp_variance(geometry, variance, **asked)
    volume = np.full((*geometry.shape, variance.shape[2]), np.nan, dtype=variance.dtype)
    for some, usable, channels in _usable_parts(known):
        bridged = bridge_gaps(variance[some], known[some])
        volume[..., channels] = fbp_variance(geometry.select(usable), bridged, **asked)
    return volume
