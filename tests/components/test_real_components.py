"""Components of measured scans; skipped where the files are not at hand."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.kernels.components.stability import agreement

DRAWN = runpy.run_path(
    str(Path(__file__).resolve().parents[2] / "docs" / "draw_real_components.py")
)
VIALS = {"Ba": (453, 173), "I": (317, 133), "Gd": (517, 296)}
"""Middle (y, x) of each vial, in pixels."""
WITHIN = 45
"""Radius inside a vial, in pixels."""


def disc(shape, center):
    y, x = np.indices(shape)
    return np.hypot(y - center[0], x - center[1]) < WITHIN


@pytest.fixture
def vials(shared_data):
    return DRAWN["vials"](shared_data("spectral_ct_8bins.h5"))


def test_known_spectra_separate_three_vials_and_bone(vials):
    ds, known, names = vials
    maps = nd.map_components(ds.chunk(y=230), known).component_map.values
    inside = {name: disc(maps.shape[:2], center) for name, center in VIALS.items()}
    for name, own in inside.items():
        one = maps[..., names.index(name)]
        for other in set(VIALS) - {name}:
            assert one[own].mean() > 4 * one[inside[other]].mean()
    bone = maps[..., names.index("bone")]
    animal = disc(bone.shape, (360, 408)) | disc(bone.shape, (294, 354))
    strong = bone > 0.06
    assert strong[animal].sum() > 1000
    assert not any(strong[own].any() for own in inside.values())


def test_factors_without_known_spectra_leave_less_but_separate_no_vial(vials):
    """Spectra of all materials are positive in all bins: what NMF may trade, it trades."""
    ds, known, _ = vials
    small = DRAWN["binned"](ds, 6)
    found = nd.find_components(small, components=5, iterations=30)
    blind = nd.map_components(small, found, residual=True)
    left = nd.map_components(small, known, residual=True).component_residual
    assert float((blind.component_residual**2).mean()) < float((left**2).mean())
    inside = disc(ds.volume.shape[:2], VIALS["Ba"])[3::6, 3::6]
    iodine = disc(ds.volume.shape[:2], VIALS["I"])[3::6, 3::6]
    maps = blind.component_map.values
    assert (maps[iodine].mean(axis=0) > 0.25 * maps[inside].mean(axis=0)).all()


def test_smoothness_takes_noise_off_the_spectra_of_the_iron_map_and_keeps_them(shared_data):
    ds = DRAWN["iron"](shared_data("als_stxm_fe_ledge.h5"))
    moments = nd.find_spectral_moments(ds)
    plain = nd.find_components(ds, moments, components=3, iterations=100)
    smooth = nd.find_components(ds, moments, components=3, iterations=100, smoothness=0.3)
    spectra = [one.component_spectrum.values for one in (plain, smooth)]
    rough = [np.square(np.diff(h, n=2)).sum() / np.square(h).sum() for h in spectra]
    assert rough[1] < rough[0]
    assert agreement(*spectra).min() > 0.98
