"""How `find_clusters` finds them, by each method, and what the result holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.components.methods import is_randomized, principal_components
from ndtomo_dask.components.moments import (
    SpectralMoments,
    check_memory,
    compressed,
    moments_for,
    moments_of,
    sketched,
)
from ndtomo_dask.components.spectra import Spectra, thinned
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.held import Held, held
from ndtomo_dask.kernels.components import cluster_starts, factors, mixtures
from ndtomo_dask.kernels.components import clusters as kernel
from ndtomo_dask.kernels.components.sketch import READINGS
from ndtomo_dask.schema import floating
from ndtomo_dask.variables import CHANNEL, CLUSTER_FACTOR

Float64 = np.ndarray[Any, np.dtype[np.float64]]

AXES = 16
"""Principal components in which distances are taken, at least."""
BASIS_SAMPLE = 20_000
"""Spectra, about, of which principal components are found: at least, and `PER_CHANNEL` as many as
channels. Of 10 000 the inertia of overlapping clusters was 0.09 percent larger, of 30 000 0.01."""
PER_CHANNEL = 16
FEW = 256
"""Spectra of a basis below which others are looked for."""
MIXTURE_LEVEL = cluster_starts.LEVELS[1]
"""Sample on which mixtures start: their steps take longer than those of K-means."""


@dataclass(frozen=True)
class Basis:
    """Principal components in which distances are taken."""

    moments: SpectralMoments
    """Of those spectra of which they were found."""
    center: Float64
    """Spectrum that is subtracted, (used,)."""
    axes: Float64
    """Orthonormal, (axis, used)."""

    def spectra(self, centers: Float64) -> Float64:
        """Spectra of centers (cluster, axis), in all channels."""
        return self.moments.everywhere(self.center + centers @ self.axes)


@dataclass(frozen=True)
class Found:
    """Clusters, the largest first, and what the sums over all spectra say."""

    centers: Float64
    """(cluster, axis)."""
    rest: kernel.Rest
    iterations: int
    made: dict[str, Any]
    """Variables of the method."""


def axes_for(method: str, clusters: int) -> int:
    """Principal components in which a method looks for so many clusters."""
    return max(AXES, clusters) if method == "kmeans" else AXES


def basis_of(
    spectra: Spectra, given: xr.Dataset | None, components: int, solver: str, allowed_mem: Any
) -> Basis:
    """Find principal components, of the moments that were given or of some of the spectra."""
    some = thinned(spectra, max(BASIS_SAMPLE, PER_CHANNEL * spectra.channels))
    leading = None
    if is_randomized(solver, given, spectra):
        check_memory(spectra, components, READINGS + 1, allowed_mem, products=False)
        rank = min(components, spectra.channels)
        known, leading = sketched(spectra, rank, among=some)
    else:
        known = moments_for(
            spectra, given, passes=1, rank=components, allowed_mem=allowed_mem, among=some
        )
        if given is None and known.sums.dropped and known.sums.count < FEW:
            known = moments_of(spectra)  # most pixels are masked, such as those around a sample
    if known.prepare.scale is not None:
        raise OptionError(
            "find_clusters needs moments without scaling, but these are scaled for counting "
            "noise. Find others: find_spectral_moments(ds)."
        )
    rank = min(components, int(known.prepare.used.sum()))
    factors.check_components(rank, known.sums)
    principal = principal_components(known, rank, leading)
    # A shift that is a number of the data's type is subtracted without a detour.
    center = principal.mean.astype(floating(spectra.arrays[0].dtype)).astype(np.float64)
    return Basis(known, center, principal.spectra)


def found_in(
    spectra: Spectra, basis: Basis, method: str, clusters: int, *, seed: int, iterations: int,
    restarts: int,
) -> Found:  # fmt: skip
    """Compress all spectra to the basis, and find clusters among them."""
    scores = compressed(spectra, basis.moments, basis.axes.T, basis.center, rest=True)
    with held(scores, "compress the spectra") as rows:
        rest = rows(kernel.rest_partial, kernel.rest_combine)
        if clusters > rest.finite:
            raise OptionError(
                f"clusters={clusters} must be at most the {rest.finite} finite spectra."
            )
        level = cluster_starts.LEVELS[-1] if method == "kmeans" else MIXTURE_LEVEL
        sample = _sample(rows, level.count(clusters) / rest.finite)
        many = {"restarts": restarts, "seed": seed}
        start = cluster_starts.best_start(sample, clusters, iterations=iterations, **many)
        if method == "kmeans":
            means = kernel.find_centers(rows, start[np.newaxis], iterations=iterations)
            inertia = means.inertia + max(0.0, rest.squares)
            made = {"cluster_size": ("cluster", means.size), "inertia": inertia}
            return Found(means.centers, rest, means.iterations, made)
        # Where a cluster is long, K-means cuts it: others begin where all axes are of one length.
        length = np.maximum(sample.std(axis=0), np.finfo(np.float32).tiny)
        equal = cluster_starts.start_centers(sample / length, clusters, **many)
        centers = [start, *(equal * length)]
        return _mixture(rows, sample, centers, basis, rest, iterations)


def _mixture(
    rows: Held, sample: Float64, centers: Sequence[Float64], basis: Basis, rest: kernel.Rest,
    iterations: int,
) -> Found:  # fmt: skip
    """Begin at K-means and at rows far from each other; the likeliest of the sample goes on."""
    spread = float(sample.var(axis=0).mean())
    start = mixtures.likeliest_start(sample, centers, spread, iterations=iterations)
    found = mixtures.find_mixture(rows, start, spread, iterations=iterations)
    clusters, columns = found.mixture.mean.shape
    criterion = mixtures.information_criterion(found.likelihood, clusters, columns, rest.finite)
    made = {
        "cluster_size": ("cluster", found.size),
        "cluster_weight": ("cluster", found.mixture.weight),
        "cluster_position": (("cluster", "axis"), found.mixture.mean),
        CLUSTER_FACTOR.name: (CLUSTER_FACTOR.dims, found.mixture.factor),
        "cluster_axis": (("axis", CHANNEL), basis.moments.everywhere(basis.axes)),
        "cluster_origin": (CHANNEL, basis.moments.everywhere(basis.center)),
        "information_criterion": criterion,
    }
    return Found(found.mixture.mean, rest, found.iterations, made)


def _sample(rows: Held, share: float) -> Float64:
    found = rows.sample(share)
    if not len(found):
        raise SchemaError("find_clusters found no finite spectrum in its sample of the data.")
    return np.ascontiguousarray(found[:, :-1])


def probabilities_block(
    block: np.ndarray, *, axes: Float64, origin: Float64, used: np.ndarray,
    mixture: mixtures.Mixture,
) -> np.ndarray:  # fmt: skip
    """Probability of each cluster of a mixture, (y, x, channel) -> (y, x, cluster)."""
    rows = np.asarray(block.reshape(-1, block.shape[-1]), dtype=floating(block.dtype))
    made = np.empty((len(rows), len(mixture.weight)), dtype=np.float32)
    for first in range(0, len(rows), mixtures.SLAB):
        some = rows[first : first + mixtures.SLAB]
        some = some if used.all() else some[:, used]
        scores = factors.project_spectra(some, axes.T, origin)
        made[first : first + mixtures.SLAB] = mixtures.probabilities(scores, mixture)[0]
    return made.reshape(*block.shape[:-1], -1)


def likeliest_block(shares: np.ndarray) -> np.ndarray:
    """Likeliest cluster, (y, x, cluster) -> (y, x); -1 where a spectrum is not finite."""
    finite = np.isfinite(shares).all(axis=-1)
    return np.where(finite, np.where(finite[..., None], shares, 0).argmax(axis=-1), -1).astype(
        "int16"
    )
