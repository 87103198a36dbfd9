"""Few spectra that explain many, and maps of how much of each is where."""

from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.held import held
from ndtomo_dask.kernels import factors, independent, nmf
from ndtomo_dask.kernels.preparation import Preparation
from ndtomo_dask.kernels.threads import one_blas_thread
from ndtomo_dask.schema import (
    CHANNEL,
    COMPONENT_MAP,
    COMPONENT_MEAN,
    COMPONENT_RESIDUAL,
    COMPONENT_SPECTRUM,
    SPECTRAL_SCALE,
    VARIABLES,
    floating,
    label,
    require,
    variable_named,
)
from ndtomo_dask.spectral_moments import (
    Data,
    Scaling,
    Spectra,
    SpectralMoments,
    as_rows,
    channel_coordinates,
    check_counts,
    check_memory,
    compressed,
    moments_dataset,
    moments_for,
    moments_of,
    spectra_of,
)

Method = Literal["pca", "nmf", "ica"]
METHODS = ("pca", "nmf", "ica")


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
    variable: str = "volume",
    start: nmf.Start = "pure",
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
    check_counts([("components", components)])
    _check_penalties(method, sparsity=sparsity, smoothness=smoothness)
    spectra = spectra_of(ds, variable, verb="find_components")

    with one_blas_thread():
        sums = moments_for(
            spectra, moments, passes=int(method != "pca"), rank=components, allowed_mem=allowed_mem
        )
        if method == "pca":
            found = _principal(sums, components)
        elif method == "ica":
            found = _independent(spectra, sums, components, iterations)
        else:
            fixed = _known(known, components, spectra, sums)
            found = _nonnegative(
                spectra, sums, components, start=start, iterations=iterations, known=fixed,
                sparsity=sparsity, smoothness=smoothness,
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


def _known(
    known: xr.Dataset | None, components: int, spectra: Spectra, moments: SpectralMoments
) -> np.ndarray | None:
    """Return the known spectra in the used channels, scaled as the data are."""
    if known is None:
        return None
    rows = require(known, COMPONENT_SPECTRUM, verb=spectra.verb).values.astype(np.float64)
    if rows.shape[1] != spectra.channels:
        raise SchemaError(
            f"find_components was given known spectra of {rows.shape[1]} channels, but the data "
            f"have {spectra.channels}. Select the same channels of both."
        )
    rows = rows[:, moments.prepare.used]
    if not np.isfinite(rows).all():
        raise SchemaError("find_components needs known spectra that are finite in all channels.")
    if len(rows) > components:
        raise OptionError(
            f"components={components} must be at least {len(rows)}, the number of known spectra."
        )
    return rows if moments.prepare.scale is None else rows / moments.prepare.scale


def _principal(moments: SpectralMoments, components: int) -> xr.Dataset:
    return _labelled(moments, factors.pca_finalize(moments.sums, moments.shift, components))


def _labelled(moments: SpectralMoments, found: factors.PrincipalComponents) -> xr.Dataset:
    return xr.Dataset(
        {
            "component_spectrum": (("component", CHANNEL), moments.everywhere(found.spectra)),
            COMPONENT_MEAN.name: (CHANNEL, moments.everywhere(found.mean)),
            "explained_variance": ("component", found.variance),
            "explained_variance_ratio": ("component", found.explained_ratio),
        },
        attrs={"average": moments.prepare.average},
    )


def _independent(
    spectra: Spectra, moments: SpectralMoments, components: int, iterations: int
) -> xr.Dataset:
    principal = factors.pca_finalize(moments.sums, moments.shift, components)
    basis = independent.whitening(principal)
    with held(compressed(spectra, moments, basis, principal.mean), "whiten the spectra") as scores:
        found = independent.independent_components(scores, principal, iterations=iterations)
    ratio = found.variance / principal.total
    turned = principal._replace(
        spectra=found.spectra, variance=found.variance, explained_ratio=ratio
    )
    return _labelled(moments, turned).assign_attrs(iterations=found.iterations)


def _nonnegative(
    spectra: Spectra, moments: SpectralMoments, components: int, **options: Any
) -> xr.Dataset:
    sparsity = options["sparsity"]
    if sparsity > 0 and moments.prepare.scale is not None:
        raise OptionError(
            f"sparsity={sparsity!r} needs moments without scaling, but these are scaled for "
            f"counting noise. Find others: find_spectral_moments(ds)."
        )
    basis = nmf.nmf_basis(moments.sums, moments.shift, components)
    with held(compressed(spectra, moments, basis.vectors), "compress the spectra") as scores:
        found = nmf.nmf_from_sums(scores, basis, components, **options)
    unit, weight = found.spectra, found.weight
    if moments.prepare.scale is not None:
        unit = unit * moments.prepare.scale
        area = unit.sum(axis=1)
        unit, weight = unit / np.where(area > 0, area, 1.0)[:, None], weight * area
    energy = max(basis.energy, np.finfo(np.float64).tiny)
    return xr.Dataset(
        {
            "component_spectrum": (("component", CHANNEL), moments.everywhere(unit)),
            "component_weight": ("component", weight),
            "objective": found.objective,
            "explained_energy": 1 - found.misfit / energy,
        },
        attrs={
            "iterations": found.iterations, "threshold": nmf.penalty_threshold(basis, sparsity),
        },
    )  # fmt: skip


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
        values=len(spectra) + residual, slab=plan.GRAM_ROWS, block=block_of(array),
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
