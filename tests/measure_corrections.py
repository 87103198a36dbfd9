"""Peak memory of one task of each correction, against its plan; run by `correct/test_memory.py`.

Of "floats" or "counts", as the first argument says. Writes a JSON object: for each verb the bytes
that its task took, and those that were planned.
"""

import json
import sys

import dask
import dask.array as da
import numpy as np
import xarray as xr

from ndtomo_dask.recipes.recipe import VERBS, Step
from ndtomo_dask.recipes.stages import Stage
from ndtomo_dask.recipes.step_plans import plan_step
from tests.measure_memory import measured

SIZES = {"angle": 96, "translation": 100, "channel": 240}
FEW = {**SIZES, "channel": 64}
"""For the verb that holds most."""
OPTIONS = {
    "crop": {"ranges": {"translation": (0.0, 90.0)}},
    "pad": {"translation": 5},
    "rebin": {"channel": 2},
    "rebin_axis": {"axis": "q", "points": 300},
    "interpolate_masked": {"along": "angle"},
    "find_translation_scale": {"passes": 1},
    "self_absorption_correction": {"iterations": 1},
    "subtract_background": {"width": 8},
}


def corrections():
    """Names of the verbs of `ndtomo_dask.correct` that recipes have and that read sinograms."""
    names = {n for n, v in VERBS.items() if v.function.__module__.startswith("ndtomo_dask.correct")}
    # Gains last: what they free, a correction behind them would take without asking for more.
    return sorted(names - {"mask_channels", "mask_circle"}, key=lambda n: ("translation" in n, n))


def scan(sizes, counts=False):
    """One block that is made by its task, with whatever any correction asks for."""
    shape = tuple(sizes.values())
    dtype = np.dtype("uint16" if counts else "float32")
    drawn = da.map_blocks(_draw, counts, chunks=shape, dtype=dtype, meta=np.empty((0, 0, 0), dtype))
    angle, translation, channel = (np.arange(size, dtype=float) for size in shape)
    width = sizes["translation"]
    rays = ("angle", "translation")
    return xr.Dataset(
        {
            "sinogram": (tuple(sizes), drawn),
            "monitor": (rays, np.full(shape[:2], 100.0)),
            "transmission": (rays, np.full(shape[:2], 0.5)),
            "flat": (("translation", "channel"), np.full(shape[1:], 1e4, dtype=np.float32)),
            "attenuation": (("y", "x"), np.full((width, width), 1e-3), {"units": "1/mm"}),
            "mask": ("channel", channel == 7),
        },
        {"angle": angle * 180 / angle.size, "translation": translation,
         "y": translation, "x": translation, "q": ("channel", 1 + channel / 100)},
    )  # fmt: skip


def _draw(counts, block_info=None):
    location, rng = block_info[None]["chunk-shape"], np.random.default_rng(0)
    if counts:
        return rng.integers(0, 200, size=location, dtype=np.uint16)
    drawn = rng.random(location, dtype=np.float32)
    drawn *= 100
    return drawn


def run(verb, ds):
    """Apply a verb to a scan of one block, or compute it where it finds a number."""
    known, given = VERBS[verb], []
    if known.required:
        given = [xr.Dataset({known.applies: xr.ones_like(ds["translation"])})]
    made = known.function(ds, *given, **OPTIONS.get(verb, {}))
    return made if verb.startswith("find_") else made["sinogram"].compute()


def planned(verb, ds):
    """Bytes that the plan of a recipe grants a task of the same block."""
    sizes = {str(dim): size for dim, size in ds.sinogram.sizes.items()}
    stage = Stage(sizes, dict(sizes), ds.sinogram.dtype.itemsize, 10**10, ds, stores_sinogram=False)
    return plan_step(stage, Step(verb, OPTIONS.get(verb, {})))[-1].projected_mem


def main():
    found, counts = {}, sys.argv[1] == "counts"
    small = {"angle": 24, "translation": 24, "channel": 40}
    for verb in sys.argv[2:] or corrections():
        run(verb, scan(small, counts))
        ds = scan(FEW if verb.startswith("self_") else SIZES, counts)
        found[verb] = measured(lambda verb=verb, ds=ds: run(verb, ds)), planned(verb, ds)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    with dask.config.set(scheduler="synchronous"):
        main()
