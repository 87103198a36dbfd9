"""Pixels grouped by their spectra, and a map of the groups."""

from typing import Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.block_sizes import GRAM_ROWS
from ndtomo_dask.components.cluster_methods import (
    axes_for,
    basis_of,
    found_in,
    likeliest_block,
    probabilities_block,
)
from ndtomo_dask.components.spectra import (
    Data,
    as_rows,
    channel_coordinates,
    check_counts,
    spectra_of,
)
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.components import clusters as kernel
from ndtomo_dask.kernels.components.mixtures import Mixture
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import label, require, variable_named
from ndtomo_dask.variables import (
    CHANNEL,
    CLUSTER_FACTOR,
    CLUSTER_LABEL,
    CLUSTER_PROBABILITY,
    CLUSTER_SPECTRUM,
)

Method = Literal["kmeans", "gaussian_mixture"]
METHODS = ("kmeans", "gaussian_mixture")
Solver = Literal["auto", "exact", "randomized"]
SOLVERS = ("auto", "exact", "randomized")


def find_clusters(
    ds: Data,
    moments: xr.Dataset | None = None,
    *,
    method: Method = "kmeans",
    clusters: int = 5,
    groups: int | None = None,
    components: int | None = None,
    solver: Solver = "auto",
    restarts: int = 16,
    iterations: int = 300,
    seed: int = 0,
    variable: str = "volume",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Group spectra by K-means or as a mixture of Gaussians, each around a mean spectrum.

    The data are read once for the principal components, of every so-manieth pixel (or not at all
    where `find_spectral_moments` has found moments of all), and once more, compressed to these.
    All restarts stand still on a small sample first; the best of them, if they differ, on larger
    ones, and one goes on with all spectra. Distances are those within the principal components; the
    inertia includes what lies outside of them.

    Parameters
    ----------
    ds
        A dataset with ``variable``, in whole spectra (``open_scan(store, layout="spectra")``), or a
        list of datasets, whose spectra are taken together.
    moments
        What `find_spectral_moments` returned for the same data, without scaling.
    method
        ``"kmeans"``: each spectrum belongs to the nearest mean; ``"gaussian_mixture"``: each
        cluster has a size and a shape of its own, and a spectrum belongs to it with a probability
        (expectation and maximization, from K-means).
    clusters
        How many.
    groups
        Merge the clusters into so many groups, the pair first whose mean spectra are nearest (Ward,
        J. Am. Stat. Assoc. 58, 236 (1963), each cluster counting once); not unless given.
    components
        Principal components in which distances are taken; of fewer channels, all. Unless given,
        16, and of K-means as many as clusters, if that is more: its means lie within as many (Ding
        & He, ICML 2004).
    solver
        Of principal components, as that of `find_components`.
    restarts
        Starts from other centers (k-means++), of which the one of least inertia on 65 536 spectra
        (1024 per cluster, if that is more) is returned.
    iterations
        At most; a start ends when its centers stand still.
    seed
        Of the random choice of starts.
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``cluster_spectrum (cluster, channel)``, largest cluster first; NaN in channels that are
        left out; ``cluster_size (cluster)``, and ``inertia``, the sum of squared distances. With
        ``groups`` also ``cluster_group (cluster)``, the group of each cluster, that of the largest
        first, and ``merge_distance (merge)``, at which two were merged, to the last. Of a mixture,
        in place of ``inertia``: ``information_criterion`` (Schwarz, Ann. Stat. 6, 461 (1978)),
        least where the number of clusters is best, and what `map_clusters` needs.
    """
    check_choice("method", method, METHODS)
    check_choice("solver", solver, SOLVERS)
    if components is None:
        components = axes_for(method, clusters)
    check_counts([("clusters", clusters), ("components", components), ("restarts", restarts)])
    if groups is not None and not 1 <= groups <= clusters:
        raise OptionError(f"groups={groups} must lie between 1 and the {clusters} clusters.")
    spectra = spectra_of(ds, variable, verb="find_clusters")

    with one_blas_thread():
        basis = basis_of(spectra, moments, components, solver, allowed_mem)
        found = found_in(
            spectra, basis, method, clusters, seed=seed, iterations=iterations, restarts=restarts
        )

    masked = basis.moments.masked
    made = xr.Dataset(found.made, coords=channel_coordinates(spectra)).assign_attrs(
        method=method,
        iterations=found.iterations,
        dropped_spectra=max(0, found.rest.rows - found.rest.finite - masked),
        masked_spectra=masked,
    )
    if groups is not None:
        group, distance = kernel.merged_centers(found.centers, groups)
        made["cluster_group"] = "cluster", group
        made["merge_distance"] = "merge", distance
    means = xr.DataArray(basis.spectra(found.centers), dims=("cluster", CHANNEL))
    about = {CLUSTER_SPECTRUM: means}
    if CLUSTER_FACTOR.name in made:
        about[CLUSTER_FACTOR] = made[CLUSTER_FACTOR.name]
    return label(made, about, step="find_clusters", method=method, clusters=clusters)


def map_clusters(ds: xr.Dataset, clusters: xr.Dataset, *, variable: str = "volume") -> xr.Dataset:
    """Map which cluster each pixel's spectrum belongs to. Nothing is computed.

    ``clusters`` is what `find_clusters` returned, or any dataset with ``cluster_spectrum (cluster,
    channel)``. Adds ``cluster_label ([time, z,] y, x)``, the nearest spectrum's; -1 where a
    spectrum is not finite. Of a mixture it is the likeliest cluster's, and ``cluster_probability
    ([time, z,] y, x, cluster)`` is added.
    """
    array = require(
        ds, variable_named(variable, verb="map_clusters"), verb="map_clusters", whole=[CHANNEL]
    )
    spectra = require(clusters, CLUSTER_SPECTRUM, verb="map_clusters").values
    if spectra.shape[1] != array.sizes[CHANNEL]:
        raise SchemaError(
            f"map_clusters was given spectra of {spectra.shape[1]} channels, but {variable!r} has "
            f"{array.sizes[CHANNEL]}. Find and map the clusters on the same channels."
        )
    is_mixture = CLUSTER_FACTOR.name in clusters

    plan.per_pixel(
        "map_clusters", sizes_of(array), array.dtype.itemsize, channels=array.sizes[CHANNEL],
        values=1 + is_mixture * len(spectra), slab=GRAM_ROWS, block=block_of(array),
        allowed_mem=allowed_memory(None),
    )  # fmt: skip

    used = np.isfinite(spectra).all(axis=0)
    made = {}
    if is_mixture:
        shares = _probabilities(array, clusters, used)
        made = {CLUSTER_LABEL: apply_kernel(likeliest_block, shares, core=["cluster"], out={},
                                            dtype="int16"),
                CLUSTER_PROBABILITY: shares}  # fmt: skip
    else:
        made[CLUSTER_LABEL] = apply_kernel(
            labels_block, array, core=[CHANNEL], out={}, dtype="int16",
            spectra=spectra[:, used], used=used,
        )  # fmt: skip

    about = CLUSTER_SPECTRUM.name
    made[CLUSTER_SPECTRUM] = clusters[about].drop_vars(list(clusters[about].coords))
    return label(ds, made, step="map_clusters", variable=variable)


def _probabilities(array: xr.DataArray, clusters: xr.Dataset, used: np.ndarray) -> xr.DataArray:
    mixture = Mixture(*(
        clusters[name].values
        for name in ("cluster_weight", "cluster_position", CLUSTER_FACTOR.name)
    ))  # fmt: skip
    return apply_kernel(
        probabilities_block, array, core=[CHANNEL], out={"cluster": len(mixture.weight)},
        dtype="float32", axes=clusters["cluster_axis"].values[:, used],
        origin=clusters["cluster_origin"].values[used], used=used, mixture=mixture,
    )  # fmt: skip


def labels_block(block: np.ndarray, *, spectra: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Nearest of some spectra, (y, x, channel), (cluster, used) -> (y, x)."""
    rows = as_rows(block)
    some = rows if used.all() else rows[:, used]
    return kernel.nearest_centers(some, spectra).reshape(block.shape[:-1])
