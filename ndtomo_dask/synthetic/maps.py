"""Phantoms of any size: maps of components, and volumes of their spectra, drawn block by block."""

from typing import Literal

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, mix_kernel, sizes_of, split_blocks
from ndtomo_dask.block_sizes import LARGEST_BLOCK, VECTOR, even
from ndtomo_dask.byte_sizes import MB
from ndtomo_dask.coordinates import attach_indexes, axis_variable
from ndtomo_dask.errors import SchemaError, check_choice
from ndtomo_dask.kernels.simulation.figures import Phantom, Picture, draw_rows
from ndtomo_dask.schema import label, require
from ndtomo_dask.variables import COMPONENT_MAP, COMPONENT_SPECTRUM, TIME, VOLUME, X, Y, Z

BLOCK = 64 * MB
"""Bytes of a block of a simulated volume."""
Layout = Literal["images", "spectra"]


def simulate_maps(
    phantom: Phantom = "cells",
    *,
    size: int = 64,
    slices: int = 0,
    components: int = 5,
    cells: int = 200,
    step: float = 0.02,
    seed: int = 0,
) -> xr.Dataset:
    """Draw a phantom of several components, lazily, and as large as is wanted.

    A pixel depends on its place and the seed only, so blocks of any size hold the same numbers, and
    any part of a terabyte can be drawn by itself.

    Parameters
    ----------
    phantom
        ``"cells"``: Voronoi cells in a cylinder, each of one component, some of two and some empty;
        ``"figures"``: a Siemens star, circles, slanted squares, a triangle and a face, which
        overlap; ``"solids"``: ball, hollow box, cylinder, cone, torus, hexagonal prism, Möbius
        strip and Menger sponge; ``"head"``: the phantom of Shepp and Logan, one component.
    size
        Rows and columns.
    slices
        Slices along ``z``, a step apart; 0 leaves the dimension out, and draws the middle.
    components, cells
        Of ``"cells"``, their numbers; the cells are those of the whole volume.
    step
        Edge of a pixel, in mm.
    seed
        Of everything that is random.

    Returns
    -------
        ``component_map ([z,] y, x, component)``, in float32.

    Examples
    --------
    >>> simulate_maps("figures", size=32).component_map.sizes
    Frozen({'y': 32, 'x': 32, 'component': 5})
    """
    picture = Picture(phantom, size, slices, components, cells, seed)
    place = axis_variable(Y, (np.arange(size) - (size - 1) / 2) * step)
    coords = {Y: place, X: axis_variable(X, place.values)}
    rows = xr.DataArray(np.arange(size), dims=Y).chunk({Y: _rows(size, picture.maps)})
    if slices:
        coords[Z] = axis_variable(Z, np.arange(slices) * step)
        rows = xr.DataArray(np.arange(slices) * size, dims=Z).chunk({Z: 1}) + rows

    drawn = apply_kernel(
        draw_rows, rows, out={X: size, "component": picture.maps}, dtype="float32", picture=picture
    )

    ds = xr.Dataset(coords=coords)
    options = {"phantom": phantom, "size": size, "slices": slices, "seed": seed}
    options |= {"components": components, "cells": cells} if phantom == "cells" else {}
    return label(ds, {COMPONENT_MAP: drawn}, step="simulate_maps", **options)


def _rows(size: int, maps: int) -> int:
    """Rows of a block: all, unless a slice is larger than a block may be."""
    return even(size, max(1, LARGEST_BLOCK // (size * maps * 4)))


def simulate_volume(
    ds: xr.Dataset, spectra: xr.Dataset, *, layout: Layout = "images"
) -> xr.Dataset:
    """Give every component its spectrum: ``volume = Σ component_map × component_spectrum``, lazily.

    Parameters
    ----------
    ds
        A dataset with ``component_map ([time, z,] y, x, component)``.
    spectra
        A dataset with ``component_spectrum ([time,] component, channel)``, such as
        `simulate_spectra` gives; spectra beyond the number of maps are left out.
    layout
        How blocks are cut: whole ``"images"`` of some channels, which `project` needs, or whole
        ``"spectra"`` of some rows.

    Returns
    -------
        ``ds`` with ``volume ([time, z,] y, x, channel)`` in float32, with the axes of the spectra.
    """
    check_choice("layout", layout, ("images", "spectra"))
    maps = require(ds, COMPONENT_MAP, verb="simulate_volume")
    known = require(spectra, COMPONENT_SPECTRUM, verb="simulate_volume")
    count = maps.sizes["component"]
    if known.sizes["component"] < count:
        raise SchemaError(
            f"simulate_volume was given {known.sizes['component']} spectra for {count} maps: "
            f"pass components={known.sizes['component']} to simulate_maps."
        )
    known = known.isel(component=slice(count)).astype("float32")

    maps, chunks = _blocks(maps, known.sizes["channel"], layout)

    volume = _series(maps, known, chunks) if TIME in known.dims else _mixed(maps, known, chunks)

    ds = ds.assign_coords({name: known[name] for name in known.coords if name not in ds.coords})
    return label(attach_indexes(ds), {VOLUME: volume}, step="simulate_volume", layout=layout)


def _blocks(maps: xr.DataArray, channels: int, layout: Layout) -> tuple[xr.DataArray, list[int]]:
    """Cut the maps for whole spectra, or the channels for whole images."""
    sizes = sizes_of(maps)
    if layout == "spectra":
        rows = max(1, BLOCK // (sizes[X] * channels * 4))
        return split_blocks(maps, {Y: rows}), [channels]
    image = sizes[Y] * sizes[X] * 4
    slab = max(1, BLOCK // image)
    slab = min(channels, slab // VECTOR * VECTOR or slab)
    whole = maps.chunk({Y: -1}) if maps.chunks is not None else maps
    return whole, [min(slab, channels - first) for first in range(0, channels, slab)]


def _series(maps: xr.DataArray, spectra: xr.DataArray, chunks: list[int]) -> xr.DataArray:
    """Mix frame by frame; maps that change in time, too, have as many frames."""
    frames = spectra.sizes[TIME]
    if maps.sizes.get(TIME, frames) != frames:
        raise SchemaError(
            f"simulate_volume was given spectra of {frames} frames for maps of "
            f"{maps.sizes[TIME]}: pass frames={maps.sizes[TIME]} to simulate_spectra."
        )
    each = [maps.isel({TIME: i}) if TIME in maps.dims else maps for i in range(frames)]
    made = [_mixed(one, spectra.isel({TIME: i}), chunks) for i, one in enumerate(each)]
    return xr.concat(made, spectra[TIME])


def _mixed(maps: xr.DataArray, spectra: xr.DataArray, chunks: list[int]) -> xr.DataArray:
    matrix = spectra.transpose("component", "channel")
    return mix_kernel(mix_components, maps, matrix, chunks=chunks)


def mix_components(maps: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Sum maps times spectra one by one, (…, component), (component, channel) -> (…, channel).

    A product of matrices would add in an order that depends on how the blocks are cut.
    """
    total = np.zeros((*maps.shape[:-1], spectra.shape[-1]), dtype=spectra.dtype)
    for number, spectrum in enumerate(spectra):
        total += maps[..., number, None] * spectrum
    return total
