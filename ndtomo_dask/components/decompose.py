"""Few spectra that explain many, and maps of how much of each is where."""

from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.block_sizes import GRAM_ROWS, basis_rank
from ndtomo_dask.components.methods import (
    independent,
    is_randomized,
    known_spectra,
    labelled,
    nonnegative,
    principal_components,
)
from ndtomo_dask.components.moments import (
    Scaling,
    check_memory,
    moments_dataset,
    moments_for,
    moments_of,
    sketched,
)
from ndtomo_dask.components.spectra import (
    Data,
    as_rows,
    channel_coordinates,
    check_counts,
    spectra_of,
)
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.components import factors
from ndtomo_dask.kernels.components.nmf_start import Start
from ndtomo_dask.kernels.components.preparation import Preparation
from ndtomo_dask.kernels.components.sketch import READINGS
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import floating, label, require, variable_named
from ndtomo_dask.variables import (
    CHANNEL,
    COMPONENT_MAP,
    COMPONENT_MEAN,
    COMPONENT_RESIDUAL,
    COMPONENT_SPECTRUM,
    SPECTRAL_SCALE,
    VARIABLES,
)

Method = Literal["pca", "nmf", "ica"]
METHODS = ("pca", "nmf", "ica")
Solver = Literal["auto", "exact", "randomized", "streaming"]
SOLVERS = ("auto", "exact", "randomized", "streaming")


def find_spectral_moments(
    ds: Data,
    *,
    variable: str = "volume",
    scaling: Scaling = "none",
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Sum all spectra and their products, Σ x xᵀ, in one reading of the data.

    `find_components` and `find_clusters` take the result in place of that reading. It is small
    (channels × channels), and can be stored beside the data: ``save(moments, "moments.zarr")``.
    A digest of the data (sizes, mask, a few spectra) guards against moments of others.

    Pixels that ``mask`` marks, and spectra with a value that is not finite, are left out and
    counted. Channels that ``mask`` marks everywhere, or that have no finite value in the block in
    the middle, are left out of all spectra; they are NaN in what is found.

    Parameters
    ----------
    ds
        A dataset with ``variable`` in whole spectra, or a list of datasets to be taken together.
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    scaling
        ``"poisson"`` divides spectra and channels by the roots of their means, so that the noise of
        counts is alike in all; it reads the data once more (Keenan & Kotula, Surf. Interface Anal.
        36, 203 (2004)).
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``spectral_gram (channel, other_channel)``, ``spectral_sum``, ``spectral_shift (channel)``,
        and with a scaling ``spectral_scale (channel)``.
    """
    spectra = spectra_of(ds, variable, verb="find_spectral_moments")
    check_memory(spectra, 1, 1 + (scaling == "poisson"), allowed_mem)

    with one_blas_thread():
        moments = moments_of(spectra, scaling=scaling)
    return moments_dataset(spectra, moments, scaling)


def find_components(
    ds: Data,
    moments: xr.Dataset | None = None,
    *,
    method: Method = "nmf",
    components: int = 5,
    solver: Solver = "auto",
    scaling: Scaling = "none",
    variable: str = "volume",
    start: Start = "pure",
    iterations: int = 300,
    known: xr.Dataset | None = None,
    sparsity: float = 0.0,
    smoothness: float = 0.0,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Find a few spectra of which every pixel's spectrum is a sum.

    The data are read once for the moments Σ x xᵀ of the spectra, from which PCA is exact, or not at
    all where `find_spectral_moments` has found these. NMF reads them once more, compressed to a
    few coordinates per pixel, and iterates on these where they lie (Erichson et al., Pattern
    Recognit. Lett. 104, 1 (2018), with the optimal basis in place of a random one).

    Parameters
    ----------
    ds
        A dataset with ``variable``, in whole spectra (``open_scan(store, layout="spectra")``), or a
        list of datasets, whose spectra are taken together.
    moments
        What `find_spectral_moments` returned for the same data; it also says how they are scaled.
    method
        ``"pca"``: orthogonal directions of largest variance about the mean; ``"nmf"``: spectra and
        amounts that are not negative. Negative data (the noise of a reconstruction) are kept.
        ``"ica"``: the principal components, rotated until their amounts are as independent as can
        be (FastICA, Hyvärinen, IEEE Trans. Neural Netw. 10, 626 (1999)).
    components
        How many.
    solver
        ``"exact"`` sums all products of channels in one reading; ``"randomized"`` needs no channels
        × channels: it looks at some spectra, and finds the leading directions in one reading, or in
        up to three where these do not show what there is. ``"auto"`` is that where no moments are
        given, above 8000 channels, and for NMF of 100 000 spectra or more where channels are many
        times the components: all products would take longer than to read the data.
        ``"streaming"``, of NMF, keeps no compressed spectra: it begins with 50 000 of them, and
        then reads the data in each iteration.
    scaling
        Without moments: ``"poisson"`` makes the noise of counts alike in all spectra and channels,
        as in `find_spectral_moments`, at the cost of one more reading.
    variable
        ``"volume"``, ``"sinogram"``, or another variable with a channel axis.
    start
        Of NMF: ``"pure"`` begins at the spectra of the purest pixels, which settles what the misfit
        leaves open where phases overlap; ``"svd"`` at the singular vectors (NNDSVD).
    iterations
        Of NMF and ICA, at most; NMF stops when the objective changes by less than a millionth.
    known
        Of NMF: spectra that are known, ``component_spectrum (component, channel)``. They stay as
        they are but for their scale, and come first among the ``components``.
    sparsity, smoothness
        Of NMF: how much sparse maps and smooth spectra are favored. With spectra h of unit sum,
        ‖X - W H‖² + 2 λ Σ w + μ Σₖ ‖wₖ‖² ‖D hₖ‖² is minimized; μ is the smoothness, D the second
        difference along channels, and λ the sparsity times ‖X‖²/Σ|x|, so that 0.01 charges about 2
        percent of ‖X‖². `map_components` makes maps with the same λ.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``component_spectrum (component, channel)``, largest first; NaN in channels that are left
        out. PCA and ICA add ``component_mean (channel)``, ``explained_variance`` and
        ``explained_variance_ratio (component)``; spectra have unit norm. NMF adds
        ``component_weight``, the total amount, ``objective``, and ``explained_energy``, the share
        of ‖X‖² that the components explain; its spectra sum to one. With scaled moments, variance,
        objective and energy are those of the scaled data, and ``spectral_scale`` says to
        `map_components` how channels are trusted.
    """
    check_choice("method", method, METHODS)
    check_choice("solver", solver, SOLVERS)
    check_counts([("components", components)])
    _check_penalties(method, sparsity=sparsity, smoothness=smoothness)
    if solver == "streaming" and method != "nmf":
        raise OptionError(f"solver='streaming' suits method='nmf' only, not {method!r}.")
    spectra = spectra_of(ds, variable, verb="find_components")

    with one_blas_thread():
        of = components if method == "nmf" else None
        if is_randomized(solver, moments, spectra, nmf_of=of):
            rank = components if of is None else min(spectra.channels, basis_rank(components))
            reads = (2 if method == "nmf" else READINGS + (method != "pca")) + (scaling != "none")
            check_memory(spectra, components, reads, allowed_mem, products=False)
            sums, leading = sketched(spectra, rank, basis_of=of, scaling=scaling)
            factors.check_components(components, sums.sums)
        else:
            leading = None
            sums = moments_for(
                spectra, moments, passes=int(method != "pca"), rank=components,
                allowed_mem=allowed_mem, scaling=scaling,
            )  # fmt: skip
        if method == "pca":
            found = labelled(sums, principal_components(sums, components, leading))
        elif method == "ica":
            found = independent(
                spectra, sums, principal_components(sums, components, leading), iterations
            )
        else:
            fixed = known_spectra(known, components, spectra, sums)
            found = nonnegative(
                spectra, sums, components, leading, streaming=solver == "streaming", start=start,
                iterations=iterations, known=fixed, sparsity=sparsity, smoothness=smoothness,
            )  # fmt: skip

    scale = sums.prepare.scale
    if scale is not None:
        found[SPECTRAL_SCALE.name] = CHANNEL, sums.everywhere(scale)
    found = found.assign_coords(channel_coordinates(spectra)).assign_attrs(
        method=method, dropped_spectra=sums.dropped, masked_spectra=sums.masked
    )
    about = {COMPONENT_SPECTRUM: found["component_spectrum"]}
    return label(found, about, step="find_components", method=method, components=components)


def _check_penalties(method: str, **penalties: float) -> None:
    for name, value in penalties.items():
        if not 0 <= value < np.inf:
            raise OptionError(f"{name}={value!r} must be 0 or more.")
        if value > 0 and method != "nmf":
            raise OptionError(f"{name}={value!r} suits method='nmf' only, not {method!r}.")


def map_components(
    ds: xr.Dataset, components: xr.Dataset, *, variable: str = "volume", residual: bool = False
) -> xr.Dataset:
    """Map the amount of each component in each pixel. Nothing is computed.

    ``components`` is what `find_components` returned, or any dataset with ``component_spectrum
    (component, channel)``. Amounts of NMF and of other given spectra are least squares that are not
    negative; those of PCA and ICA are the coordinates of the spectrum less the mean. Adds
    ``component_map ([time, z,] y, x, component)``; NaN where a spectrum is not finite.

    ``residual=True`` adds ``component_residual ([time, z,] y, x)`` from the same reading: the root
    mean square, over the channels that are used, of what the components leave of each spectrum. Of
    PCA and ICA with a scaling it is that of the scaled spectra.
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
    used = np.isfinite(spectra).all(axis=0)
    mean, scale = components.get(COMPONENT_MEAN.name), components.get(SPECTRAL_SCALE.name)

    plan.per_pixel(
        "map_components", sizes_of(array), array.dtype.itemsize, channels=array.sizes["channel"],
        values=len(spectra) + residual, slab=GRAM_ROWS, block=block_of(array),
        allowed_mem=allowed_memory(None),
    )  # fmt: skip

    amounts = apply_kernel(
        weights_block, array, core=["channel"], out={"component": len(spectra) + residual},
        dtype=floating(array.dtype),
        spectra=spectra[:, used], mean=None if mean is None else mean.values[used],
        prepare=Preparation(used, None if scale is None else scale.values[used],
                            float(components.attrs.get("average", 1.0))),
        threshold=float(components.attrs.get("threshold", 0.0)), residual=residual,
    )  # fmt: skip

    units = array.attrs.get("units", VARIABLES[variable].units)
    method = components.attrs.get("method", "given")
    maps = amounts.isel(component=slice(len(spectra))) if residual else amounts
    made = {COMPONENT_MAP: maps.assign_attrs(units=units)}
    if residual:
        made[COMPONENT_RESIDUAL] = amounts.isel(component=-1).assign_attrs(units=units)
    found = {COMPONENT_SPECTRUM: components["component_spectrum"].drop_vars(_scalars(components))}
    return label(ds, made | found, step="map_components", method=method, variable=variable)


def _scalars(ds: xr.Dataset) -> list[Any]:
    return list(ds["component_spectrum"].coords)


def weights_block(
    block: np.ndarray,
    *,
    spectra: np.ndarray,
    mean: np.ndarray | None,
    prepare: Preparation | None = None,
    threshold: float = 0.0,
    residual: bool = False,
) -> np.ndarray:
    """Amounts of components, (y, x, channel), (component, used) -> (y, x, component).

    ``residual`` adds one more number: the root mean square of what they leave.
    """
    rows, trust = as_rows(block), None
    if mean is not None:
        basis = spectra.T if _orthonormal(spectra) else np.linalg.pinv(spectra)
        amounts = factors.project_spectra(rows, basis, mean, prepare)
    else:
        if prepare is not None:
            rows = rows if prepare.used.all() else rows[:, prepare.used]
            trust, prepare = None if prepare.scale is None else prepare.scale**-2, None
        amounts = factors.component_weights(
            rows, spectra, nonnegative=True, trust=trust, threshold=threshold
        )
    if residual:
        left = factors.root_mean_square_residual(rows, spectra, amounts, mean, prepare)
        amounts = np.concatenate([amounts, left[:, None]], axis=1)
    return amounts.reshape(*block.shape[:-1], -1)


def _orthonormal(spectra: np.ndarray) -> bool:
    return bool(np.allclose(spectra @ spectra.T, np.eye(len(spectra)), rtol=0, atol=1e-9))
