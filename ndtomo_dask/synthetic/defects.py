"""Defects added to any clean sinogram, for phantoms of one's own."""

import numpy as np
import xarray as xr

from ndtomo_dask.apply import apply_kernel, planned_sinogram
from ndtomo_dask.errors import SchemaError
from ndtomo_dask.kernels.simulation.defects import Defects, Noise, count_projection
from ndtomo_dask.kernels.simulation.phantoms import beam_decay
from ndtomo_dask.schema import label
from ndtomo_dask.synthetic.truth import projection_numbers, true_defects
from ndtomo_dask.variables import SINOGRAM

VERB = "simulate_defects"


def simulate_defects(
    ds: xr.Dataset,
    *,
    decay: float = 1.0,
    stripes: float = 0.0,
    spots: int = 0,
    hot_channels: int = 0,
    dead_channels: int = 0,
    missing: int = 0,
    bright: float = 1000.0,
    noise: Noise = "poisson",
    seed: int = 0,
) -> xr.Dataset:
    """Spoil a clean sinogram as a real measurement would, and count it; lazily.

    Parameters
    ----------
    ds
        A dataset with ``sinogram ([time, z,] angle, translation, channel)`` of expected counts,
        whole along ``translation`` and ``channel``.
    decay
        Flux left when the beam is topped up, which happens twice a scan; 1 is a steady beam.
    stripes, spots, hot_channels, dead_channels, missing, noise, seed
        As in `simulate_scan`.
    bright
        Counts of a bright sample, which spots and hot channels exceed.

    Returns
    -------
        ``ds`` with the spoiled ``sinogram`` in float32, ``true_beam (angle)``, and what
        `simulate_scan` tells of the defects that there are.

    Raises
    ------
    SchemaError
        The sinogram is cut along ``translation`` or ``channel``: a projection is counted whole, so
        that its counts do not depend on the blocks.
    OptionError
        There are fewer channels or projections than are to be spoiled.
    """
    defects = Defects(
        stripes, spots, hot_channels, dead_channels, missing, bright, noise=noise, seed=seed
    )
    sinogram = planned_sinogram(ds, VERB)
    _check_whole(sinogram)
    angles = sinogram.sizes["angle"]
    beam = xr.DataArray(beam_decay(angles, decay, topups=min(2, angles)), dims="angle")

    spoiled = apply_kernel(
        count_block, sinogram, projection_numbers(sinogram), beam,
        dtype="float32", defects=defects, angles=angles,
    )  # fmt: skip

    flux = beam * ds["true_beam"] if "true_beam" in ds else beam
    truth = true_defects(ds.assign(true_beam=flux), defects)
    spoiled = spoiled.assign_attrs(sinogram.attrs)
    return label(truth, {SINOGRAM: spoiled}, step=VERB, seed=seed, decay=decay, **defects.given())


def _check_whole(sinogram: xr.DataArray) -> None:
    for dim in ("translation", "channel"):
        if len(sinogram.chunksizes.get(dim, (0,))) > 1:
            raise SchemaError(
                f"{VERB} needs whole projections, but 'sinogram' is split along {dim!r}. Join "
                f"them: ds.chunk(angle=1, translation=-1, channel=-1)."
            )


def count_block(
    expected: np.ndarray, number: np.ndarray, beam: np.ndarray, *, defects: Defects, angles: int
) -> np.ndarray:
    """Spoil and count some projections, (angle, translation, channel), (angle,), (angle,)."""
    counted = np.empty(expected.shape, dtype=np.float32)
    for row, clean in enumerate(expected):
        seen = np.maximum(beam[row] * clean.astype(np.float64), 0.0)
        counted[row] = count_projection(seen, defects, number=int(number[row]), angles=angles)
    return counted
