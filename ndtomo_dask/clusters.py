"""Pixels grouped by their spectra, and a map of the groups."""

from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.block_sizes import GRAM_ROWS
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.held import Held, held
from ndtomo_dask.kernels import clusters as kernel
from ndtomo_dask.kernels import factors
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import label, require, variable_named
from ndtomo_dask.spectral_moments import (
    Data,
    Spectra,
    as_rows,
    channel_coordinates,
    check_counts,
    compressed,
    moments_for,
    spectra_of,
)
from ndtomo_dask.variables import CHANNEL, CLUSTER_LABEL, CLUSTER_SPECTRUM

SAMPLE = 20_000
"""Spectra, about, among which the first centers are chosen."""


def find_clusters(
    ds: Data,
    moments: xr.Dataset | None = None,
    *,
    clusters: int = 5,
    groups: int | None = None,
    components: int = 16,
    restarts: int = 4,
    iterations: int = 300,
    seed: int = 0,
    variable: str = "volume",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Group spectra by K-means, each around a mean spectrum.

    The data are read once for the moments of the spectra (or not at all where
    `find_spectral_moments` has found these), and once more, compressed to their principal
    components; all restarts iterate on these together. Distances are those within the principal
    components; the inertia includes what lies outside of them.

    Parameters
    ----------
    ds
        A dataset with ``variable``, in whole spectra (``open_scan(store, layout="spectra")``), or a
        list of datasets, whose spectra are taken together.
    moments
        What `find_spectral_moments` returned for the same data, without scaling.
    clusters
        How many.
    groups
        Merge the clusters into so many groups, the pair first whose mean spectra are nearest (Ward,
        J. Am. Stat. Assoc. 58, 236 (1963), each cluster counting once); not unless given.
    components
        Principal components in which distances are taken; of fewer channels, all.
    restarts
        Starts from other centers (k-means++), of which the one of least inertia is returned.
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
        first, and ``merge_distance (merge)``, at which two were merged, to the last.
    """
    check_counts([("clusters", clusters), ("components", components), ("restarts", restarts)])
    if groups is not None and not 1 <= groups <= clusters:
        raise OptionError(f"groups={groups} must lie between 1 and the {clusters} clusters.")
    spectra = spectra_of(ds, variable, verb="find_clusters")

    with one_blas_thread():
        known = moments_for(spectra, moments, passes=1, rank=components, allowed_mem=allowed_mem)
        if known.prepare.scale is not None:
            raise OptionError(
                "find_clusters needs moments without scaling, but these are scaled for counting "
                "noise. Find others: find_spectral_moments(ds)."
            )
        rank = min(components, int(known.prepare.used.sum()))
        principal = factors.pca_finalize(known.sums, known.shift, rank)
        if clusters > known.sums.count:
            raise OptionError(
                f"clusters={clusters} must be at most the {known.sums.count} finite spectra."
            )
        scores = compressed(spectra, known, principal.spectra.T, principal.mean)
        with held(scores, "compress the spectra") as rows:
            sample = _sample(rows, spectra, SAMPLE / known.sums.count)
            start = kernel.start_centers(sample, clusters, restarts=restarts, seed=seed)
            found = kernel.find_centers(rows, start, iterations=iterations)

    centers = principal.mean + found.centers @ principal.spectra
    outside = (known.sums.count - 1) * max(0.0, principal.total - float(principal.variance.sum()))
    made = xr.Dataset(
        {"cluster_size": ("cluster", found.size), "inertia": found.inertia + outside},
        coords=channel_coordinates(spectra),
    ).assign_attrs(
        iterations=found.iterations, dropped_spectra=known.dropped, masked_spectra=known.masked
    )
    if groups is not None:
        group, distance = kernel.merged_centers(found.centers, groups)
        made["cluster_group"] = "cluster", group
        made["merge_distance"] = "merge", distance
    means = xr.DataArray(known.everywhere(centers), dims=("cluster", CHANNEL))
    return label(made, {CLUSTER_SPECTRUM: means}, step="find_clusters", clusters=clusters)


def _sample(rows: Held, spectra: Spectra, share: float) -> np.ndarray:
    shapes = [array.shape[:-1] for array in spectra.arrays]
    first = np.cumsum([0, *map(prod, shapes)]).tolist()
    sample = rows.by_place(
        sample_block, kernel.sample_combine, shapes=shapes, first=first, share=share
    )
    found = kernel.sample_finalize(sample)
    if not len(found):
        raise SchemaError("find_clusters found no finite spectrum in its sample of the data.")
    return found


def sample_block(
    rows: np.ndarray, source: int, place: Any, *, shapes: Any, first: Any, share: float
) -> kernel.Sample:
    """Rows of one block that are chosen by their number in all data."""
    inside = np.ix_(*(np.arange(part.start, part.stop) for part in place[:-1]))
    number = np.ravel_multi_index(np.broadcast_arrays(*inside), shapes[source])
    return kernel.sample_partial(rows, number.reshape(-1) + first[source], share)


def map_clusters(ds: xr.Dataset, clusters: xr.Dataset, *, variable: str = "volume") -> xr.Dataset:
    """Map which cluster's spectrum is nearest to each pixel's. Nothing is computed.

    ``clusters`` is what `find_clusters` returned, or any dataset with ``cluster_spectrum (cluster,
    channel)``. Adds ``cluster_label ([time, z,] y, x)``; -1 where a spectrum is not finite.
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

    plan.per_pixel(
        "map_clusters", sizes_of(array), array.dtype.itemsize, channels=array.sizes[CHANNEL],
        values=1, slab=GRAM_ROWS, block=block_of(array), allowed_mem=allowed_memory(None),
    )  # fmt: skip

    used = np.isfinite(spectra).all(axis=0)
    labels = apply_kernel(
        labels_block, array, core=[CHANNEL], out={}, dtype="int16",
        spectra=spectra[:, used], used=used,
    )  # fmt: skip

    about = CLUSTER_SPECTRUM.name
    found = {CLUSTER_SPECTRUM: clusters[about].drop_vars(list(clusters[about].coords))}
    return label(ds, {CLUSTER_LABEL: labels} | found, step="map_clusters", variable=variable)


def labels_block(block: np.ndarray, *, spectra: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Nearest of some spectra, (y, x, channel), (cluster, used) -> (y, x)."""
    rows = as_rows(block)
    some = rows if used.all() else rows[:, used]
    return kernel.nearest_centers(some, spectra).reshape(block.shape[:-1])
