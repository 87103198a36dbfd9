"""Few spectra that explain many, and maps of how much of each is where."""

from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import (
    allowed_memory,
    apply_kernel,
    block_of,
    first_block,
    reduce_kernel,
    sizes_of,
)
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.held import held
from ndtomo_dask.kernels import factors, nmf
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import (
    COMPONENT_MAP,
    COMPONENT_MEAN,
    COMPONENT_SPECTRUM,
    VARIABLES,
    floating,
    label,
    require,
    variable_named,
)

Method = Literal["pca", "nmf"]
METHODS = ("pca", "nmf")


def find_components(
    ds: xr.Dataset,
    *,
    method: Method = "nmf",
    components: int = 5,
    variable: str = "volume",
    start: nmf.Start = "pure",
    iterations: int = 300,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Find a few spectra of which every pixel's spectrum is a sum.

    Spectra with a value that is not finite are left out and counted. The data are read once for the
    moments Σ x xᵀ of the spectra, from which PCA is exact; NMF reads them once more, compressed to
    a few coordinates per pixel, and iterates on these (Erichson et al., Pattern Recognit. Lett.
    104, 1 (2018), with the optimal basis in place of a random one).

    Parameters
    ----------
    ds
        A dataset with ``variable``, in whole spectra (``open_scan(store, layout="spectra")``).
    method
        ``"pca"``: orthogonal directions of largest variance about the mean; ``"nmf"``: spectra and
        amounts that are not negative. Negative data (the noise of a reconstruction) are kept.
    components
        How many.
    variable
        ``"volume"``, or another variable with a channel axis.
    start
        Of NMF: ``"pure"`` begins at the spectra of the purest pixels, which settles what the misfit
        leaves open where phases overlap; ``"svd"`` at the singular vectors (NNDSVD).
    iterations
        Of NMF, at most; it stops when the objective changes by less than a millionth.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``component_spectrum (component, channel)``, largest first. PCA adds ``component_mean
        (channel)``, ``explained_variance`` and ``explained_variance_ratio (component)``; its
        spectra have unit norm. NMF adds ``component_weight``, the total amount, and ``objective``;
        its spectra sum to one.
    """
    check_choice("method", method, METHODS)
    if components < 1:
        raise OptionError(f"components={components} must be 1 or more.")
    array = require(
        ds,
        variable_named(variable, verb="find_components"),
        verb="find_components",
        whole=["channel"],
    )

    allowed = allowed_memory(allowed_mem)
    sizes = sizes_of(array)
    plan.find_components(
        sizes, array.dtype.itemsize, components=components, passes=METHODS.index(method) + 1,
        block=block_of(array), allowed_mem=allowed,
    )  # fmt: skip

    (first,) = compute_arrays([first_block(array)], "look at the first spectra")
    shift = mean_spectrum(first.values)
    moments = reduce_kernel(
        array,
        moments_block,
        factors.moments_combine,
        description="moments of the spectra",
        shift=shift,
    )
    with one_blas_thread():
        found = (
            _principal(moments, shift, components)
            if method == "pca"
            else _nonnegative(array, moments, shift, components, start=start, iterations=iterations)
        )

    found = found.assign_coords(
        {name: axis for name, axis in ds.coords.items() if axis.dims in (("channel",), ())}
    )
    found = found.assign_attrs(method=method, dropped_spectra=moments.dropped)
    spectra = {COMPONENT_SPECTRUM: found["component_spectrum"]}
    return label(found, spectra, step="find_components", method=method, components=components)


def _principal(moments: factors.Moments, shift: np.ndarray, components: int) -> xr.Dataset:
    principal = factors.pca_finalize(moments, shift, components)
    return xr.Dataset(
        {
            "component_spectrum": (("component", "channel"), principal.spectra),
            COMPONENT_MEAN.name: ("channel", principal.mean),
            "explained_variance": ("component", principal.variance),
            "explained_variance_ratio": ("component", principal.explained_ratio),
        }
    )


def _nonnegative(
    array: xr.DataArray,
    moments: factors.Moments,
    shift: np.ndarray,
    components: int,
    **options: Any,
) -> xr.Dataset:
    basis = nmf.nmf_basis(moments, shift, components)
    rank = {"rank": basis.vectors.shape[1]}
    projected = apply_kernel(
        project_block,
        array,
        core=["channel"],
        out=rank,
        dtype=floating(array.dtype),
        vectors=basis.vectors,
    )
    with held(projected, "compress the spectra") as scores:
        found = nmf.nmf_from_sums(scores, basis, components, **options)
    return xr.Dataset(
        {
            "component_spectrum": (("component", "channel"), found.spectra),
            "component_weight": ("component", found.weight),
            "objective": found.objective,
        },
        attrs={"iterations": found.iterations},
    )


def map_components(
    ds: xr.Dataset, components: xr.Dataset, *, variable: str = "volume"
) -> xr.Dataset:
    """Map the amount of each component in each pixel. Nothing is computed.

    ``components`` is what `find_components` returned, or any dataset with ``component_spectrum
    (component, channel)``. Amounts of NMF and of other given spectra are least squares that are not
    negative; those of PCA are the coordinates of the spectrum less the mean. Adds ``component_map
    ([time, z,] y, x, component)``; NaN where a spectrum is not finite.
    """
    array = require(
        ds,
        variable_named(variable, verb="map_components"),
        verb="map_components",
        whole=["channel"],
    )
    spectra = require(components, COMPONENT_SPECTRUM, verb="map_components").values
    if spectra.shape[1] != array.sizes["channel"]:
        raise SchemaError(
            f"map_components was given spectra of {spectra.shape[1]} channels, but {variable!r} "
            f"has {array.sizes['channel']}. Find and map the components on the same channels."
        )
    mean = components.get(COMPONENT_MEAN.name)

    plan.per_pixel(
        "map_components", sizes_of(array), array.dtype.itemsize, channels=array.sizes["channel"],
        values=spectra.shape[0], slab=plan.GRAM_ROWS, block=block_of(array),
        allowed_mem=allowed_memory(None),
    )  # fmt: skip

    amounts = apply_kernel(
        weights_block, array, core=["channel"], out={"component": spectra.shape[0]},
        dtype=floating(array.dtype),
        spectra=spectra, mean=None if mean is None else mean.values,
    )  # fmt: skip

    units = array.attrs.get("units", VARIABLES[variable].units)
    method = components.attrs.get("method", "given")
    made = {COMPONENT_MAP: amounts.assign_attrs(units=units)}
    found = {COMPONENT_SPECTRUM: components["component_spectrum"].drop_vars(_scalars(components))}
    return label(ds, made | found, step="map_components", method=method, variable=variable)


def _scalars(ds: xr.Dataset) -> list[Any]:
    return list(ds["component_spectrum"].coords)


def mean_spectrum(block: np.ndarray) -> np.ndarray:
    """Mean of the finite values of each channel, 0 without any; (…, channel) -> (channel,)."""
    rows = block.reshape(-1, block.shape[-1])
    finite = np.isfinite(rows)
    count = finite.sum(axis=0)
    total = np.sum(rows, axis=0, where=finite, dtype=np.float64)
    return np.asarray(total / np.maximum(count, 1))


def moments_block(block: np.ndarray, *, shift: np.ndarray) -> factors.Moments:
    """Moments of the spectra of one block, (…, channel)."""
    return factors.moments_partial(_spectra(block), shift)


def project_block(block: np.ndarray, *, vectors: np.ndarray) -> np.ndarray:
    """Coordinates of spectra in a basis, (y, x, channel), (channel, rank) -> (y, x, rank)."""
    rows = factors.project_spectra(_spectra(block), vectors)
    return rows.reshape(*block.shape[:-1], -1)


def weights_block(block: np.ndarray, *, spectra: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    """Amounts of components, (y, x, channel), (component, channel) -> (y, x, component)."""
    rows = _spectra(block)
    if mean is None:
        amounts = factors.component_weights(rows, spectra, nonnegative=True)
    else:
        amounts = factors.project_spectra(rows, spectra.T, mean)
    return amounts.reshape(*block.shape[:-1], -1)


def _spectra(block: np.ndarray) -> np.ndarray:
    """Spectra as rows of real numbers, (…, channel) -> (pixel, channel)."""
    rows = block.reshape(-1, block.shape[-1])
    return np.asarray(rows, dtype=floating(block.dtype))
