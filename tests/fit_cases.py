"""Small volumes of overlapping peaks with known parameters."""

import numpy as np
import xarray as xr

from ndtomo_dask.kernels.fitting.peaks import SHAPES, evaluate_shape
from ndtomo_dask.schema import record

Q = np.linspace(2.9, 3.4, 101)
PLACES = {"a": 3.1, "b": 3.15}
WINDOW = {"pair": (2.948, 3.302)}
INSIDE = slice(10, 81)
"""Its channels."""
PAIR = {"windows": WINDOW, "peaks": {"pair": PLACES}, "axis": "q"}


def volume_of(spectra, *, units="count/mm", axis=Q):
    """Wrap spectra (y, x, channel) as a volume on ``q``."""
    about = {"units": units, "long_name": "reconstructed intensity"}
    ds = xr.Dataset({"volume": (("y", "x", "channel"), spectra, about)})
    y, x = (np.arange(size) * 0.1 for size in spectra.shape[:2])
    ds = ds.assign_coords(q=("channel", axis, {"units": "1/angstrom"}), y=y, x=x)
    return record(ds.set_xindex("q"), "test")


def pair_truth(rng, shape=(3, 4)):
    """Parameters of two overlapping peaks per pixel: area, position, fwhm, fraction."""
    truth = {}
    for name, at in PLACES.items():
        area, shift = rng.uniform(2, 4, shape), rng.uniform(-0.005, 0.005, shape)
        fwhm, fraction = rng.uniform(0.025, 0.035, shape), rng.uniform(0.2, 0.8, shape)
        truth[name] = np.stack([area, at + shift, fwhm, fraction], axis=-1)
    return truth


def pair_volume(truth, shape="pseudo_voigt", axis=Q):
    """Peaks on a line; whatever else a shape has stands behind its own parameters."""
    own = len(SHAPES[shape].parameters)
    spectra = sum(evaluate_shape(shape, axis, values[..., :own]) for values in truth.values())
    return volume_of(spectra + 5 + 2 * axis, axis=axis)
