"""What the channels are: which axis they have, in which unit, and whether that can be."""

import numpy as np
import xarray as xr

from ndtomo_dask.survey.finding import Finding, undetermined
from ndtomo_dask.variables import COORDINATES, SPECTRAL_AXES

PLAUSIBLE = {"tth": (0.0, 180.0), "q": (0.0, 60.0), "d": (0.05, 500.0), "energy": (0.05, 300.0)}
"""Range of each axis in the unit of the data model, at a beamline of X-rays."""
LIKELY = {"tth": "rad", "q": "1/nm", "d": "nm", "energy": "eV"}
"""Unit that was probably meant where values are out of range."""


def survey_channels(ds: xr.Dataset) -> Finding:
    """Say which axis the channels have, in which unit, and whether its values can be that."""
    question, size = "channel axis", ds.sizes["channel"]
    if size == 1:
        return Finding(question, "none", "one channel: an image of the beam, not a spectrum")
    names = [name for name in SPECTRAL_AXES if name in ds.coords]
    if not names:
        return undetermined(question, f"{size} channels, and no axis of that length beside them: "
                            f"name it, tth=, q= or energy=")  # fmt: skip
    name = names[0]
    values = np.asarray(ds[name].values, dtype=float)
    low, high = float(values.min()), float(values.max())
    unit = COORDINATES[name].units
    told = f"{size} channels from {low:.5g} to {high:.5g} {unit}"
    figures = {"low": low, "high": high}
    least, most = PLAUSIBLE[name]
    if high > most or low < min(least, -0.01 * high):
        return Finding(question, f"{name}, but in which unit?", f"{told} cannot be: perhaps the "
                       f"file means {LIKELY[name]}, units: {{{name}: {LIKELY[name]}}}", "alarm",
                       figures)  # fmt: skip
    rest = f"; {', '.join(names[1:])} besides" if names[1:] else ""
    return Finding(question, f"{name} in {unit}", told + rest, "fine", figures)
