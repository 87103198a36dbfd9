"""Pixels grouped by their spectra, and a map of the groups."""

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
from ndtomo_dask.schema import floating, label, require, variable_named
from ndtomo_dask.spectral_moments import (
    Data,
    Spectra,
    SpectralMoments,
    as_rows,
    channel_coordinates,
    check_counts,
    compressed,
    moments_for,
    moments_of,
    spectra_of,
    thinned,
)
from ndtomo_dask.variables import CHANNEL, CLUSTER_LABEL, CLUSTER_SPECTRUM

BASIS_SAMPLE = 20_000
"""Spectra, about, of which principal components are found: at least, and `PER_CHANNEL` as many as
channels. Of 10 000 the inertia of overlapping clusters was 0.09 percent larger, of 30 000 0.01."""
PER_CHANNEL = 16
SAMPLE = 8192
"""Spectra, about, on which starts stand still."""
LEAST_SAMPLE = 256
"""Spectra of the sample per cluster, at least."""


def find_clusters(
    ds: Data,
    moments: xr.Dataset | None = None,
    *,
    clusters: int = 5,
    groups: int | None = None,
    components: int = 16,
    restarts: int = 8,
    iterations: int = 300,
    seed: int = 0,
    variable: str = "volume",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Group spectra by K-means, each around a mean spectrum.

    The data are read once for the principal components, of every so-manieth pixel (or not at all
    where `find_spectral_moments` has found moments of all), and once more, compressed to these.
    All restarts stand still on a sample first; those that are about as good as the best, and differ
    from it, go on with all spectra together. Distances are those within the principal components;
    the inertia includes what lies outside of them.

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
        known = _moments(spectra, moments, components, allowed_mem)
        principal = factors.pca_finalize(
            known.sums, known.shift, min(components, int(known.prepare.used.sum()))
        )
        # A shift that is a number of the data's type is subtracted without a detour.
        center = principal.mean.astype(floating(spectra.arrays[0].dtype)).astype(np.float64)
        scores = compressed(spectra, known, principal.spectra.T, center, rest=True)
        with held(scores, "compress the spectra") as rows:
            rest = rows(kernel.rest_partial, kernel.rest_combine)
            if clusters > rest.finite:
                raise OptionError(
                    f"clusters={clusters} must be at most the {rest.finite} finite spectra."
                )
            sample = _sample(rows, max(SAMPLE, LEAST_SAMPLE * clusters) / rest.finite)
            start = kernel.settled_starts(
                sample, clusters, restarts=restarts, seed=seed, iterations=iterations
            )
            found = kernel.find_centers(rows, start, iterations=iterations)

    centers = center + found.centers @ principal.spectra
    made = xr.Dataset(
        {
            "cluster_size": ("cluster", found.size),
            "inertia": found.inertia + max(0.0, rest.squares),
        },
        coords=channel_coordinates(spectra),
    ).assign_attrs(
        iterations=found.iterations,
        dropped_spectra=max(0, rest.rows - rest.finite - known.masked),
        masked_spectra=known.masked,
    )
    if groups is not None:
        group, distance = kernel.merged_centers(found.centers, groups)
        made["cluster_group"] = "cluster", group
        made["merge_distance"] = "merge", distance
    means = xr.DataArray(known.everywhere(centers), dims=("cluster", CHANNEL))
    return label(made, {CLUSTER_SPECTRUM: means}, step="find_clusters", clusters=clusters)


def _moments(
    spectra: Spectra, given: xr.Dataset | None, components: int, allowed_mem: Any
) -> SpectralMoments:
    """Moments of the spectra, as given, or of so many as a basis takes."""
    some = thinned(spectra, max(BASIS_SAMPLE, PER_CHANNEL * spectra.channels))
    known = moments_for(
        spectra, given, passes=1, rank=components, allowed_mem=allowed_mem, among=some
    )
    if given is None and known.sums.dropped and known.sums.count < LEAST_SAMPLE:
        known = moments_of(spectra)  # most pixels are masked, such as those around a sample
    if known.prepare.scale is not None:
        raise OptionError(
            "find_clusters needs moments without scaling, but these are scaled for counting "
            "noise. Find others: find_spectral_moments(ds)."
        )
    return known


def _sample(rows: Held, share: float) -> np.ndarray:
    sample = rows.numbered(kernel.sample_partial, kernel.sample_combine, share=share)
    found = kernel.sample_finalize(sample)
    if not len(found):
        raise SchemaError("find_clusters found no finite spectrum in its sample of the data.")
    return found[:, :-1]


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
