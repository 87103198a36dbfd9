"""Few mixed channels that stand for thousands: their basis, their sinograms, and back again."""

from typing import Literal

import xarray as xr

from ndtomo_dask import plan_mixing
from ndtomo_dask.apply import allowed_memory, block_of, is_lazy, sizes_of
from ndtomo_dask.block_sizes import image_block
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.reconstruction.eigenchannels import SAMPLE_BLOCK, find_eigenchannels
from ndtomo_dask.reconstruction.mixing import compressed, expanded
from ndtomo_dask.scan_geometry import geometry_of, without_masked_rays
from ndtomo_dask.schema import label, require, without_masked
from ndtomo_dask.variables import (
    KEPT_CHANNEL,
    RESIDUAL_SCORE,
    SINOGRAM,
    SPECTRAL_BASIS,
    SPECTRAL_MAP,
    SPECTRAL_SINOGRAM,
    SPECTRAL_WEIGHT,
    VOLUME,
    Variable,
)


def find_spectral_basis(
    ds: xr.Dataset,
    *,
    rank: int | Literal["auto"] = "auto",
    peak_width: int | None = None,
    threshold: float = 7.0,
    allowed_mem: int | str | None = None,
) -> xr.Dataset:
    """Find a few spectra that explain those of a scan, and the channels that they do not explain.

    The leading singular vectors of the sinogram are found from a few thousand of its spectra,
    scaled so that counting noise is alike in all of them (Keenan & Kotula, Surf. Interface Anal.
    36, 203 (2004)). What they leave is summed over windows of channels, reconstructed coarsely by
    filtered back-projection, and searched: a phase in a few pixels is invisible in the sinogram but
    stands out there. Channels of windows where it does are kept, and so are channels in which
    single samples are missing, because their geometry is another: kept channels are not mixed.

    Parameters
    ----------
    ds
        A scan with ``sinogram ([time, z,] angle, translation, channel)``, whole along
        ``translation``; whole spectra (``layout="spectra"``) are read fastest.
    rank
        How many components; ``"auto"``: one and a half times as many as stand out of the noise
        (Gavish & Donoho, IEEE Trans. Inf. Theory 60, 5040 (2014)), and two.
    peak_width
        Full width at half maximum of a peak, in channels; default: judged from the spectra.
    threshold
        Noise standard deviations by which a pixel must stand out of the residual; ``inf`` searches
        nothing, and may lose a phase.
    allowed_mem
        Bytes one task may hold.

    Returns
    -------
        ``spectral_weight`` and ``spectral_basis (component, channel)``, which mix channels and
        unmix them, ``kept_channel`` and ``residual_score (channel)``, and ``singular_value``.

    Raises
    ------
    OptionError
        The rank is neither ``"auto"`` nor between 1 and the channels.
    """
    if peak_width is not None and peak_width < 2:
        raise OptionError(f"peak_width={peak_width} must be 2 channels or more.")
    if not threshold > 0:
        raise OptionError(f"threshold={threshold} must be greater than 0; 7 is usual.")
    sinogram = require(ds, SINOGRAM, verb="find_spectral_basis", whole=["translation"])
    geometry = geometry_of(ds, verb="find_spectral_basis")
    sinogram, geometry = without_masked_rays(ds, sinogram, geometry, verb="find_spectral_basis")

    sizes = sizes_of(sinogram)
    stored = block_of(sinogram) if is_lazy(sinogram) else {**sizes, "angle": 1}
    _, together = plan_mixing.find_spectral_basis(
        sizes, stored, sinogram.dtype.itemsize, sample=SAMPLE_BLOCK,
        allowed_mem=allowed_memory(allowed_mem),
    )  # fmt: skip

    found = find_eigenchannels(
        sinogram, geometry, rank=rank, peak_width=peak_width, threshold=threshold,
        together=together,
    )  # fmt: skip

    axes = {name: axis for name, axis in ds.coords.items() if axis.dims in (("channel",), ())}
    variables = (SPECTRAL_WEIGHT, SPECTRAL_BASIS, KEPT_CHANNEL, RESIDUAL_SCORE)
    options = {"rank": rank, "peak_width": peak_width, "threshold": threshold}
    made = {variable: found[variable.name] for variable in variables}
    return label(found.assign_coords(axes), made, step="find_spectral_basis", **options)


def compress_channels(ds: xr.Dataset, basis: xr.Dataset) -> xr.Dataset:
    """Mix the channels of a scan into the components of a basis. Nothing is computed.

    Adds ``spectral_sinogram ([time, z,] angle, translation, component)``, ``spectral_basis`` and
    ``kept_channel``. ``basis`` is what `find_spectral_basis` returned, for this scan or one like
    it. A sample that is missing in a channel which the basis mixes is missing in every mixed
    component.
    """
    sinogram = require(ds, SINOGRAM, verb="compress_channels")
    check_basis(basis, sinogram.sizes["channel"], "compress_channels")
    if "mask" in ds and ds["mask"].dims != ("angle",):
        sinogram = without_masked(ds, sinogram, verb="compress_channels")

    mixed = mixed_channels(sinogram, basis, verb="compress_channels", allowed_mem=None)
    made = {SPECTRAL_SINOGRAM: mixed.assign_attrs(units=sinogram.attrs.get("units", "count"))}
    digest = basis.attrs.get("digest", "given")
    return label(ds, made | factors(basis), step="compress_channels", basis=digest)


def expand_channels(ds: xr.Dataset, *, allowed_mem: int | str | None = None) -> xr.Dataset:
    """Unmix maps of components into one image per channel. Nothing is computed.

    The way to look at some channels, or at some pixels, of a volume that was stored as
    ``spectral_map ([time, z,] y, x, component)`` with ``spectral_basis`` and ``kept_channel``: only
    what is selected is worked out. Adds ``volume ([time, z,] y, x, channel)``.
    """
    maps = require(ds, SPECTRAL_MAP, verb="expand_channels", whole=["component"])
    basis = require(ds, SPECTRAL_BASIS, verb="expand_channels")
    kept = require(ds, KEPT_CHANNEL, verb="expand_channels")

    both = xr.Dataset({basis.name: basis, kept.name: kept.astype(bool)})
    volume = unmixed_maps(maps, both, verb="expand_channels", allowed_mem=allowed_mem)
    units = maps.attrs.get("units", VOLUME.units)
    return label(ds, {VOLUME: volume.assign_attrs(units=units)}, step="expand_channels")


def mixed_channels(
    sinogram: xr.DataArray, basis: xr.Dataset, *, verb: str, allowed_mem: int | str | None
) -> xr.DataArray:
    """Mix channels, if a task may hold what that takes: (..., channel) -> (..., component)."""
    components = basis.sizes["component"] - int(basis[KEPT_CHANNEL.name].sum())
    if is_lazy(sinogram):
        plan_mixing.mix(
            verb, sizes_of(sinogram), block_of(sinogram), sinogram.dtype.itemsize,
            over="channel", into=max(1, components), allowed_mem=allowed_memory(allowed_mem),
        )  # fmt: skip
    return compressed(sinogram, basis)


def unmixed_maps(
    maps: xr.DataArray, basis: xr.Dataset, *, verb: str, allowed_mem: int | str | None
) -> xr.DataArray:
    """Unmix maps in blocks of channels that a task may hold: (..., component) -> (..., channel)."""
    channels = basis.sizes["channel"]
    size = channels
    if is_lazy(maps):
        sizes = {**sizes_of(maps), "channel": channels}
        allowed = allowed_memory(allowed_mem)
        size = image_block(sizes, maps.dtype.itemsize, allowed_mem=allowed)["channel"]
        maps = maps.chunk(component=-1)
        plan_mixing.mix(verb, sizes_of(maps), block_of(maps), maps.dtype.itemsize,
                        over="component", into=size, allowed_mem=allowed)  # fmt: skip
    chunks = [min(size, channels - first) for first in range(0, channels, size)]
    return expanded(maps, basis, chunks=chunks)


def factors(basis: xr.Dataset) -> dict[Variable, xr.DataArray]:
    """Return what is kept of a basis beside maps of its components."""
    scalars = [name for name, axis in basis.coords.items() if not axis.dims]
    return {
        variable: basis[variable.name].drop_vars(scalars)
        for variable in (SPECTRAL_BASIS, KEPT_CHANNEL)
    }


def check_basis(basis: xr.Dataset, channels: int, verb: str) -> None:
    """Refuse what is no basis, or one of other channels."""
    for variable in (SPECTRAL_WEIGHT, SPECTRAL_BASIS, KEPT_CHANNEL):
        require(basis, variable, verb=verb)
    if basis.sizes["channel"] != channels:
        raise SchemaError(
            f"{verb} was given a basis of {basis.sizes['channel']} channels, but 'sinogram' has "
            f"{channels}. Find and apply the basis on the same channels."
        )
