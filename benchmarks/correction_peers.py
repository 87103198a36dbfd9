"""Sinogram corrections beside nDTomo and Algotom: the cases of nDTomo's tutorial on sinograms.

A head phantom of 128 pixels in 128 projections over 180°, made by scikit-image, is spoiled in five
ways: (a) a constant background, (b) a decaying beam, (c) an axis three steps off, (d) projections
displaced by whole steps, (e) by parts of steps. What each program makes of it is reconstructed by
one and the same filtered back-projection, about the axis that the program tells.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import ndtomo_dask as nd
from benchmarks.contest import OURS, Absent, Contestant, Results, enter, race, table
from benchmarks.truth import circle, relative_rmse
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors.numba import NumbaProjector
from ndtomo_dask.kernels.simulation.phantoms import beam_decay

SIZE, AXIS = 128, 64.0
ANGLES = np.arange(SIZE) * np.pi / SIZE
CASES = {
    "a": "a constant background of 20",
    "b": "a beam that decays to 75 % and is topped up twice",
    "c": "an axis 3 steps off",
    "d": "projections displaced by whole steps, -3 to 2",
    "e": "projections displaced by 0 to 3 steps",
    "f": "an axis 2.63 steps off, which is not in the tutorial",
}


class Corrected(NamedTuple):
    """What a program made of a sinogram, (angle, translation, channel), and its axis."""

    sinogram: np.ndarray
    center: float = AXIS
    shifts: np.ndarray | None = None


@cache
def _clean() -> np.ndarray:  # -> (angle, translation)
    from skimage import data, transform

    image = transform.resize(data.shepp_logan_phantom(), (SIZE, SIZE), anti_aliasing=True)
    project: Any = transform.radon  # carries no types
    return np.asarray(project(image, np.rad2deg(ANGLES)).T)


def spoiled(case: str, channels: int) -> np.ndarray:  # -> (angle, translation, channel)
    """Return the sinogram of a case, in channels that differ in strength alone."""
    clean, rng = _clean(), np.random.default_rng(1)
    place = np.arange(SIZE)
    if case == "a":
        bad = clean + 20
    elif case == "b":
        bad = clean * beam_decay(200, 0.75, topups=2)[:SIZE, None]
    elif case == "c":
        bad = np.roll(clean, 3, axis=1)
    elif case == "f":
        bad = _moved(clean, 2.63)
    else:
        steps = rng.integers(-3, 3, SIZE).astype(float) if case == "d" else rng.uniform(0, 3, SIZE)
        steps[0] = 0 if case == "d" else steps[0]
        bad = np.stack([np.interp(place - s, place, r) for s, r in zip(steps, clean, strict=True)])
    return np.asarray(bad[..., None] * np.linspace(0.5, 1.5, channels), dtype=np.float32)


def _moved(rows: np.ndarray, steps: float) -> np.ndarray:
    """Move rows by a part of a step without blurring them."""
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * SIZE) * steps)
    return np.fft.irfft(np.fft.rfft(rows, 2 * SIZE, axis=1) * phase, axis=1)[:, :SIZE]


def distance(found: Corrected) -> float:
    """Relative error of the image of the last channel, wherever the sample now lies in it."""
    from scipy.ndimage import shift
    from skimage.registration import phase_cross_correlation

    image = _image(found)
    clean = _image(Corrected(1.5 * _clean()[..., None].astype(np.float32)))
    register: Any = phase_cross_correlation
    offset = register(clean, image, upsample_factor=20)[0]
    moved = shift(image, offset, order=3) if np.abs(offset).max() > 0 else image
    best = min((image, moved), key=lambda one: relative_rmse(one, clean, circle(SIZE)))
    return relative_rmse(best, clean, circle(SIZE))


def _image(found: Corrected) -> np.ndarray:
    last = np.ascontiguousarray(found.sinogram[..., -1:])
    geometry = ParallelGeometry.centered(
        ANGLES, last.shape[1], rotation_center=found.center, shifts=found.shifts, size=SIZE
    )
    return np.maximum(NumbaProjector(geometry).fbp(last)[..., 0], 0)


def _ours(case: str, data: np.ndarray) -> Callable[[], Corrected]:
    dims = ("angle", "translation", "channel")
    scan = xr.Dataset({"sinogram": (dims, data)}, {"angle": ("angle", np.rad2deg(ANGLES))})

    def work() -> Corrected:
        if case == "a":
            return Corrected(nd.remove_air(scan).sinogram.values)
        if case == "b":
            return Corrected(nd.normalize_projections(scan).sinogram.values)
        shifts = None if case in "cf" else nd.find_projection_shifts(scan)
        ds = scan if shifts is None else nd.align_projections(scan, shifts)
        center = nd.find_rotation_center(ds) if shifts is None else shifts
        moved = None if shifts is None else shifts.projection_shift.values
        return Corrected(scan.sinogram.values, float(center.rotation_center), moved)

    return work


def _ndtomo(case: str, data: np.ndarray) -> Callable[[], Corrected]:
    from nDTomo.tomo import sinograms as theirs

    given = np.ascontiguousarray(data.transpose(1, 0, 2), dtype=np.float64)

    def work() -> Corrected:
        rows = given.copy()  # they write into what they are given
        if case == "a":
            rows = theirs.airrem(rows, ofs=2, pbar=False, coli=0, colf=2)
        elif case == "b":
            rows = theirs.scalesinos(rows)
        if case in "de":
            rows = theirs.sinocomcor(rows, sine_wave=case == "e")
        if case in "cdef":
            rows = theirs.sinocentering(rows, crsr=5, pbar=False)
        center = (rows.shape[0] - 1) / 2 if case in "cdef" else AXIS
        return Corrected(np.asarray(rows.transpose(1, 0, 2), dtype=np.float32), center)

    return work


def _algotom(data: np.ndarray) -> Callable[[], Corrected]:
    from algotom.prep.calculation import find_center_vo

    def work() -> Corrected:
        return Corrected(data, float(find_center_vo(data.mean(axis=2))))

    return work


def contest(case: str, channels: int, repeat: int) -> Results:
    """Correct a case by every program that can."""
    data = spoiled(case, channels)

    def entry(name: str, build: Callable[[], Callable[[], Corrected]]) -> Contestant | Absent:
        return enter(name, lambda: Contestant(name, build(), channels, distance))

    named = [entry(OURS, lambda: _ours(case, data)), entry("nDTomo", lambda: _ndtomo(case, data))]
    if case in "cf":
        named.append(entry("Algotom find_center_vo", lambda: _algotom(data)))
    named.append(Contestant("nothing", lambda: Corrected(data), channels, distance))
    return race(named, repeat)


def print_all(repeat: int, channels: int = 64) -> None:
    """Print a table per case."""
    for case, what in CASES.items():
        results = contest(case, channels, repeat)
        title = f"({case}) {what}; {channels} channels"
        print(table(title, results, piece="channel", error="relative RMSE of the image"), "\n")
