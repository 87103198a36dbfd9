"""What one reading of the spectra tells all estimates: their number, their mean, their products.

Moments are computed from data, or taken from a dataset that `find_spectral_moments` returned and
that may have been stored. A digest says of which data they are.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import xarray as xr

from ndtomo_dask import plan
from ndtomo_dask.apply import allowed_memory, apply_kernel, block_of, sizes_of
from ndtomo_dask.components.spectra import (
    Spectra,
    as_rows,
    channel_coordinates,
    patches,
    reduce_spectra,
)
from ndtomo_dask.computing import compute_arrays
from ndtomo_dask.errors import OptionError, SchemaError, check_choice
from ndtomo_dask.kernels.components import factors, sketch
from ndtomo_dask.kernels.components.preparation import (
    Preparation,
    Sums,
    counting_noise,
    sums_combine,
    sums_partial,
)
from ndtomo_dask.schema import floating, label, require
from ndtomo_dask.variables import (
    CHANNEL,
    SPECTRAL_GRAM,
    SPECTRAL_SCALE,
    SPECTRAL_SHIFT,
    SPECTRAL_SUM,
    Variable,
)

Scaling = Literal["none", "poisson"]
SCALINGS = ("none", "poisson")
LOOKED_AT = 2048
"""Spectra, about, of which the shift is the mean, and those with which directions begin."""


@dataclass(frozen=True)
class SpectralMoments:
    """Sums over all spectra, and what was done to these first."""

    sums: factors.Moments
    shift: np.ndarray
    """Spectrum that was subtracted, (used,)."""
    prepare: Preparation
    masked: int

    @property
    def dropped(self) -> int:
        """Spectra left out because a value is not finite, less those that are masked."""
        return max(0, self.sums.dropped - self.masked)

    def everywhere(self, values: np.ndarray) -> np.ndarray:
        """Put values of the used channels, (…, used), in their places; NaN in the others."""
        full = np.full((*values.shape[:-1], self.prepare.used.size), np.nan)
        full[..., self.prepare.used] = values
        return full


def check_memory(
    spectra: Spectra, components: int, passes: int, allowed_mem: Any, *, products: bool = True
) -> None:
    """Refuse blocks that would not fit the memory of a task, with all products of channels."""
    for array in spectra.arrays:
        plan.find_components(
            sizes_of(array), array.dtype.itemsize, components=components, passes=passes,
            block=block_of(array), allowed_mem=allowed_memory(allowed_mem), step=spectra.verb,
            products=products,
        )  # fmt: skip


def moments_of(
    spectra: Spectra, *, scaling: Scaling = "none", among: Spectra | None = None
) -> SpectralMoments:
    """Sum the spectra and their products, in one reading; Poisson scaling takes one before.

    The shift is the mean of the block in the middle. Channels without a finite value there are
    left out, unless there is none in any. Only those ``among`` them are summed, if given.
    """
    shift, prepare = _preparation_of(spectra, scaling)
    sums = reduce_spectra(
        among or spectra, moments_block, factors.moments_combine, "moments of the spectra",
        shift=shift, prepare=prepare,
    )  # fmt: skip
    return SpectralMoments(sums, shift, prepare, spectra.masked)


def sketched(
    spectra: Spectra, rank: int, *, basis_of: int | None = None, scaling: Scaling = "none",
    among: Spectra | None = None,
) -> tuple[SpectralMoments, sketch.Leading]:  # fmt: skip
    """Find leading eigenvectors of Σ x xᵀ, without that matrix.

    They are about the mean; or about zero, if they are the ``basis_of`` so many components of NMF.
    Of these, vectors beyond the components matter little.

    The moments that are returned have no products. The data, or those ``among`` them, are read
    once where a few patches of them show what there is, else up to `sketch.READINGS` times; once
    more for a scaling.
    """
    centered = basis_of is None
    shift, prepare = _preparation_of(spectra, scaling)
    few = compute_arrays(patches(among or spectra, LOOKED_AT).arrays, "look at some spectra")
    directions = sketch.first_directions(
        np.concatenate([as_rows(each.values) for each in few]), rank, shift, prepare,
        centered=centered,
    )  # fmt: skip
    last = (basis_of, sketch.SPAN) if basis_of else (rank, sketch.EIGENVALUES)
    for _ in range(sketch.READINGS):
        sums = reduce_spectra(
            among or spectra, sketch_block, sketch.sketch_combine, "sketch the spectra",
            directions=directions, shift=shift, prepare=prepare,
        )  # fmt: skip
        product, trace = sketch.without_shift(sums, shift, directions, centered=centered)
        leading = sketch.leading(product, directions, trace, rank)
        if leading.settled(*last):
            break
        directions = sketch.orthonormal(product)
    return SpectralMoments(sketch.as_moments(sums), shift, prepare, spectra.masked), leading


def _preparation_of(spectra: Spectra, scaling: Scaling) -> tuple[np.ndarray, Preparation]:
    """Return the shift of the sums, and what is done to spectra first."""
    check_choice("scaling", scaling, SCALINGS)
    (middle,) = compute_arrays([_middle_block(spectra.arrays[0])], "look at the first spectra")
    rows = as_rows(middle.values)
    some = rows[:: max(1, len(rows) // LOOKED_AT)]
    alive = np.isfinite(some).any(axis=0)
    if not alive.all():
        some, alive = rows, np.isfinite(rows).any(axis=0)
    prepare = Preparation(spectra.used & alive if alive.any() else spectra.used)
    if not prepare.used.any():
        raise SchemaError(f"{spectra.verb} needs data, but 'mask' marks every channel.")
    if scaling == "poisson":
        sums = reduce_spectra(
            spectra, sums_block, sums_combine, "sum the spectra", used=prepare.used
        )
        prepare = counting_noise(sums, prepare.used)
    # Where the shift is a number of the data's type, it is subtracted without a detour.
    return mean_spectrum(prepare(some)).astype(rows.dtype).astype(np.float64), prepare


def _middle_block(array: xr.DataArray) -> xr.DataArray:
    where = {}
    for dim, chunks in array.chunksizes.items():
        middle = len(chunks) // 2
        start = sum(chunks[:middle])
        where[dim] = slice(start, start + chunks[middle])
    return array.isel(where)


def compressed(
    spectra: Spectra, moments: SpectralMoments, vectors: np.ndarray, shift: Any = None, *,
    rest: bool = False,
) -> list[xr.DataArray]:  # fmt: skip
    """Coordinates of all spectra in a basis (used, rank), lazily; ``rest``: and what is beside."""
    return [
        apply_kernel(
            project_block, array, core=[CHANNEL], out={"rank": vectors.shape[1] + rest},
            dtype=floating(array.dtype), vectors=vectors, prepare=moments.prepare, shift=shift,
            rest=rest,
        )
        for array in spectra.arrays
    ]  # fmt: skip


def moments_dataset(spectra: Spectra, moments: SpectralMoments, scaling: Scaling) -> xr.Dataset:
    """Label moments, so that they can be stored."""
    gram = np.full((spectra.channels,) * 2, np.nan)
    gram[np.ix_(*[np.flatnonzero(moments.prepare.used)] * 2)] = moments.sums.gram
    values: dict[Variable, np.ndarray] = {
        SPECTRAL_SUM: moments.everywhere(moments.sums.sum),
        SPECTRAL_SHIFT: moments.everywhere(moments.shift),
    }
    if moments.prepare.scale is not None:
        values[SPECTRAL_SCALE] = moments.everywhere(moments.prepare.scale)
    arrays = {about: xr.DataArray(value, dims=CHANNEL) for about, value in values.items()}
    arrays[SPECTRAL_GRAM] = xr.DataArray(gram, dims=SPECTRAL_GRAM.dims)
    made = xr.Dataset(coords=channel_coordinates(spectra)).assign_attrs(
        spectra=moments.sums.count,
        dropped_spectra=moments.dropped,
        masked_spectra=moments.masked,
        average=moments.prepare.average,
        scaling=scaling,
        digest=digest_of(spectra),
    )
    return label(made, arrays, step=spectra.verb, variable=spectra.arrays[0].name, scaling=scaling)


def moments_given(found: xr.Dataset, spectra: Spectra) -> SpectralMoments:
    """Take moments from a dataset, if they are of these spectra."""
    gram = require(found, SPECTRAL_GRAM, verb=spectra.verb).values
    if gram.shape[0] != spectra.channels or found.attrs.get("digest") != digest_of(spectra):
        raise SchemaError(
            f"{spectra.verb} was given moments of other data. Find them again, with the same "
            f"variable, mask and order of datasets: find_spectral_moments(ds)."
        )
    used = np.isfinite(found[SPECTRAL_SHIFT.name].values)
    where = np.flatnonzero(used)
    scale = found[SPECTRAL_SCALE.name].values[used] if SPECTRAL_SCALE.name in found else None
    masked = int(found.attrs["masked_spectra"])
    sums = factors.Moments(
        int(found.attrs["spectra"]),
        int(found.attrs["dropped_spectra"]) + masked,
        found[SPECTRAL_SUM.name].values[used],
        gram[np.ix_(where, where)],
    )
    prepare = Preparation(used, scale, float(found.attrs["average"]))
    return SpectralMoments(sums, found[SPECTRAL_SHIFT.name].values[used], prepare, masked)


def moments_for(
    spectra: Spectra, given: xr.Dataset | None, *, passes: int, rank: int, allowed_mem: Any,
    scaling: Scaling = "none", among: Spectra | None = None,
) -> SpectralMoments:  # fmt: skip
    """Take the moments that a verb was given, or compute them, of those ``among`` the spectra."""
    if given is not None and not isinstance(given, xr.Dataset):
        raise OptionError(
            f"moments={given!r} is not a dataset. Pass what find_spectral_moments(ds) returned."
        )
    if given is not None and scaling != "none":
        raise OptionError(
            f"scaling={scaling!r} goes without moments. Scale these instead: "
            f"find_spectral_moments(ds, scaling={scaling!r})."
        )
    reads = (given is None) + (scaling != "none")
    check_memory(spectra, rank, passes + reads, allowed_mem)
    if given is None:
        return moments_of(spectra, scaling=scaling, among=among)
    return moments_given(given, spectra)


def digest_of(spectra: Spectra) -> str:
    """Hash the sizes, types and masks of the data, and three spectra of each dataset."""
    content = blake2b(spectra.used.tobytes() + str(spectra.masked).encode(), digest_size=16)
    chosen = []
    for array in spectra.arrays:
        pixels = {dim: size for dim, size in array.sizes.items() if dim != CHANNEL}
        about = (array.name, str(array.dtype), sorted(sizes_of(array).items()))
        content.update(repr(about).encode())
        chosen += [
            array.isel({dim: n * size // 4 for dim, size in pixels.items()}) for n in (1, 2, 3)
        ]
    for spectrum in compute_arrays(chosen, "look at some spectra"):
        content.update(np.ascontiguousarray(spectrum.values).tobytes())
    return content.hexdigest()


def mean_spectrum(rows: np.ndarray) -> np.ndarray:
    """Mean of the finite values of each channel, 0 without any; (pixel, channel) -> (channel,)."""
    finite = np.isfinite(rows)
    total = np.sum(rows, axis=0, where=finite, dtype=np.float64)
    return np.asarray(total / np.maximum(finite.sum(axis=0), 1))


def moments_block(
    block: np.ndarray, *, shift: np.ndarray, prepare: Preparation | None = None
) -> factors.Moments:
    """Moments of the spectra of one block, (…, channel)."""
    return factors.moments_partial(as_rows(block), shift, prepare=prepare)


def sketch_block(
    block: np.ndarray, *, directions: np.ndarray, shift: np.ndarray, prepare: Preparation
) -> sketch.Sketch:
    """Sum the spectra of one block, (…, channel), and their products with directions."""
    return sketch.sketch_partial(as_rows(block), directions, shift, prepare)


def sums_block(block: np.ndarray, *, used: np.ndarray) -> Sums:
    """Sum of the spectra of one block, (…, channel)."""
    return sums_partial(as_rows(block), used)


def project_block(
    block: np.ndarray,
    *,
    vectors: np.ndarray,
    prepare: Preparation | None = None,
    shift: np.ndarray | None = None,
    rest: bool = False,
) -> np.ndarray:
    """Coordinates of spectra in a basis, (y, x, channel), (used, rank) -> (y, x, rank)."""
    rows = factors.project_spectra(as_rows(block), vectors, shift, prepare, rest=rest)
    return rows.reshape(*block.shape[:-1], -1)
