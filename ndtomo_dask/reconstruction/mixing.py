"""Reconstruct a few mixed channels, and unmix them again.

A linear reconstruction R commutes with mixing channels. So the sinogram S is mixed into
``T = S P``, of a few components, and ``volume = R(T) B``, with the small matrices P and B of a
basis. Channels that the basis cannot explain are kept: components of their own, copied, not mixed.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, groupby

import numpy as np
import xarray as xr

from ndtomo_dask.apply import is_lazy, mix_kernel
from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels.components.spectral_rank import mix_channels
from ndtomo_dask.kernels.reconstruction import METHODS
from ndtomo_dask.schema import floating
from ndtomo_dask.variables import KEPT_CHANNEL, SPECTRAL_BASIS, SPECTRAL_WEIGHT

_BREAKING = {
    "nonnegative": "a bound does not commute with mixing channels",
    "accelerated": "its momentum restarts where a channel's data say so",
    "stop": "channels stop by their own data",
    "weighted": "channels have weights of their own",
    "start": "it starts from other images",
    "variance": "noise is left out with what is not mixed, and the variance would not know",
}


def check_linear(method: str, options: Collection[str] = ()) -> None:
    """Refuse what does not commute with mixing channels, with the reason.

    ``options`` are the names of those that are given.

    >>> check_linear("sirt", ["iterations"])
    """
    if not METHODS[method].linear:
        linear = " or ".join(repr(name) for name, made in METHODS.items() if made.linear)
        reason = (
            "its step lengths depend on the data" if method == "cgls"
            else "its result is not a weighted sum of the samples"
        )  # fmt: skip
        raise OptionError(
            f"spectral_rank is not for method={method!r}, because {reason}: pass method={linear}, "
            f"or spectral_rank=None."
        )
    for name in options:
        if name in _BREAKING:
            raise OptionError(
                f"spectral_rank is not for method={method!r} with {name}, because "
                f"{_BREAKING[name]}: leave one of the two out."
            )


def compressed(sinogram: xr.DataArray, basis: xr.Dataset) -> xr.DataArray:
    """Mix the channels of a sinogram into the components of a basis; lazily.

    (…, angle, translation, channel) -> (…, angle, translation, component), in any blocks: parts of
    the channels are mixed block by block and added two by two.
    """
    dtype = floating(sinogram.dtype)
    kept = np.flatnonzero(basis[KEPT_CHANNEL.name].values)
    weight = basis[SPECTRAL_WEIGHT.name].values[: -kept.size or None].T.astype(dtype)
    plain = _without_axis(sinogram, "channel")
    parts = []
    if weight.shape[1]:
        table = xr.DataArray(weight, dims=("channel", "component"))
        parts.append(mix_kernel(mix_channels, plain.astype(dtype, copy=False), table))
    if kept.size:
        parts.append(plain.isel(channel=kept).rename(channel="component").astype(dtype))
    return _joined(parts, "component")


def _without_axis(array: xr.DataArray, dim: str) -> xr.DataArray:
    return array.drop_vars([name for name, axis in array.coords.items() if dim in axis.dims])


def _joined(parts: Sequence[xr.DataArray], dim: str) -> xr.DataArray:
    if len(parts) == 1:
        return parts[0]
    return xr.concat(parts, dim, coords="minimal", compat="override", join="override")


def expanded(
    maps: xr.DataArray, basis: xr.Dataset, *, chunks: Sequence[int] | None = None
) -> xr.DataArray:
    """Unmix maps of components into images of channels; lazily, in blocks of ``chunks`` channels.

    (…, y, x, component) -> (…, y, x, channel). A block of channels needs the mixed components and
    its own kept ones, so a kept channel with NaN spoils no other.
    """
    kept = basis[KEPT_CHANNEL.name].values
    spectra = basis[SPECTRAL_BASIS.name].values.astype(maps.dtype)
    mixed = spectra.shape[0] - int(kept.sum())
    number = mixed + np.cumsum(kept) - 1
    pieces = []
    for channels, cut in _runs(kept, chunks or (kept.size,)):
        needed = [*range(mixed), *number[channels][kept[channels]]]
        some = maps.isel(component=needed)
        some = some.chunk(component=-1) if is_lazy(some) else some
        table = xr.DataArray(spectra[needed, channels], dims=("component", "channel"))
        pieces.append(mix_kernel(mix_channels, some, table, chunks=cut))
    volume = _joined(pieces, "channel")
    axes = {name: axis for name, axis in basis.coords.items() if axis.dims == ("channel",)}
    return volume.assign_coords(axes)


def _runs(kept: np.ndarray, chunks: Sequence[int]) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Blocks of channels, together as long as none is kept in them."""
    ends = list(accumulate(chunks))
    blocks = [slice(end - size, end) for end, size in zip(ends, chunks, strict=True)]
    alone = groupby(enumerate(blocks), lambda item: item[0] if kept[item[1]].any() else -1)
    for _, group in alone:
        run = [block for _, block in group]
        yield slice(run[0].start, run[-1].stop), tuple(b.stop - b.start for b in run)
