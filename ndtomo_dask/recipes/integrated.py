"""The sinogram that frames integrate to, stored before anything else is done to it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import StoreError
from ndtomo_dask.frames.integrate import READER
from ndtomo_dask.io.blocks import Share
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.io.store import save
from ndtomo_dask.variables import FRAME_NUMBER

INTEGRATED_GROUP = "integrated"
"""Group of a store with the sinogram of the frames, before it was corrected."""
LOGGER = logging.getLogger("ndtomo_dask")
_NAMED = 5
"""Frames that a message names."""


def store_integrated(ds: xr.Dataset, store: Path, share: Share | None) -> xr.Dataset:
    """Integrate frames into a store and open the sinogram from there, in whole images.

    Only missing blocks are integrated. Frames that could not be read are counted in the attribute
    ``unreadable_frames``, named in ``unreadable_frame_names`` and in the log; where there are none,
    the mask is left out.

    Raises
    ------
    StoreError
        No frame at all could be read.
    """
    save(ds, store, group=INTEGRATED_GROUP, resume=True, share=share)

    stored = open_scan(store, group=INTEGRATED_GROUP, layout="images")
    stored = stored.drop_attrs(deep=False).assign_attrs(ds.attrs)
    stored = stored.assign(mask=stored["mask"].astype(bool).compute())
    numbers = _unreadable(stored)
    if not bool(stored["mask"].any()):
        return stored.drop_vars("mask")
    return stored.assign_attrs(_report(ds.encoding[READER], numbers, stored))


def _unreadable(stored: xr.Dataset) -> np.ndarray:
    """Numbers of the frames that were there and could not be read."""
    numbers = np.asarray(stored[FRAME_NUMBER.name])[np.asarray(stored["mask"])]
    return np.sort(numbers[numbers >= 0])


def _report(reader: Any, numbers: np.ndarray, stored: xr.Dataset) -> dict[str, Any]:
    taken = int((np.asarray(stored[FRAME_NUMBER.name]) >= 0).sum())
    if numbers.size == taken:
        raise StoreError(
            f"none of the {taken} frames could be read, the first being {reader.name(0)}. See that "
            f"its folder is mounted on the workers, and run again with --resume."
        )
    names = [reader.name(int(number)) for number in numbers[:_NAMED]]
    shown = ", ".join(names) + (", …" if numbers.size > _NAMED else "")
    if numbers.size:
        LOGGER.warning(
            "%d of %d frames could not be read and are masked: %s", numbers.size, taken, shown
        )
    return {"unreadable_frames": int(numbers.size), "unreadable_frame_names": shown}
