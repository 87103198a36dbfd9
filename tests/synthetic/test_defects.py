import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import SchemaError
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy

SMALL = {"size": 24, "angles": 20, "channels": 40, "grains": 8}
STEADY = {"air": 0.0, "decay": 1.0, "center_offset": 0.0, "jitter": 0.0, "noise": "none"}
ALL = {"stripes": 0.05, "spots": 30, "hot_channels": 2, "dead_channels": 1, "missing": 3}
WHOLE = ({"angle": 7}, {"angle": 1}, {"angle": 20})


@pytest.fixture
def clean():
    return nd.simulate_scan(**SMALL, **STEADY).load()


def spoil(ds):
    return nd.simulate_defects(ds, **ALL, decay=0.8)


def test_a_scan_is_a_clean_one_with_its_defects(clean):
    scan = nd.simulate_scan(**SMALL, **STEADY | {"noise": "poisson"}, **ALL)
    bright = 2000 * 0.02 * 0.84 * SMALL["size"]
    again = nd.simulate_defects(clean, **ALL, bright=bright)
    for name in [name for name in scan.data_vars if name.startswith("true_")]:
        np.testing.assert_array_equal(again[name], scan[name], name)
    # The clean scan is stored in single precision, so a few expected counts round otherwise.
    assert (again.sinogram.values == scan.sinogram.values).mean() > 0.999


def test_defects_are_lazy_the_same_in_any_blocks_and_recorded(clean):
    clean = clean.drop_vars("true_beam")
    assert_lazy(spoil, clean.chunk(angle=5))
    assert_chunk_invariant(spoil, clean, WHOLE)
    assert_keeps(clean, spoil(clean), "simulate_defects")
    assert "spots=30" in spoil(clean).attrs["history"].splitlines()[-1]


def test_slices_and_frames_have_noise_of_their_own(clean):
    stack = clean.sinogram.expand_dims(time=2, z=3)
    ds = clean[["sinogram"]].assign(sinogram=stack)
    made = nd.simulate_defects(ds.chunk(time=1, z=1, angle=5), spots=4).compute()
    assert made.sizes["spot"] == 4
    assert made.true_spot_angle.dims == ("time", "z", "spot")
    flat = made.sinogram.values.reshape(6, -1)
    assert len({row.tobytes() for row in flat}) == 6
    np.testing.assert_array_equal(made.sinogram[0, 0], nd.simulate_defects(clean, spots=4).sinogram)


def test_projections_must_be_whole(clean):
    with pytest.raises(SchemaError, match=r"split along 'channel'. Join them: ds.chunk"):
        nd.simulate_defects(clean.chunk(channel=10))


def test_absorption_attenuates_by_the_true_transmission():
    bare = nd.simulate_scan(**SMALL, **STEADY).compute()
    thick = nd.simulate_scan(**SMALL, **STEADY, absorption=1.5).compute()
    passed = thick.true_transmission
    assert passed.dims == ("angle", "translation")
    assert float(passed.max()) == 1.0
    assert np.exp(-1.5) <= float(passed.min()) < 0.5
    ratio = (thick.sinogram.sum("channel") / bare.sinogram.sum("channel")).where(
        bare.sinogram.sum("channel") > 0
    )
    # Both are means over the width of the beam; their ratio is not that of the means.
    assert float(abs(ratio - passed).max()) < 0.05
    assert float(abs(ratio - passed).mean()) < 0.005


def test_air_is_absorbed_with_the_sample():
    options = SMALL | STEADY | {"counts": 1e-9, "air": 30.0, "absorption": 1.5}
    thick = nd.simulate_scan(**options).compute()
    first = thick.sinogram.isel(channel=0)
    np.testing.assert_allclose(first, 30 * thick.true_transmission, rtol=1e-6)


def test_an_amorphous_matrix_adds_a_smooth_spectrum_everywhere_in_the_sample():
    bare, filled = (
        nd.simulate_scan(**SMALL, **STEADY, amorphous=amount).sinogram.values
        for amount in (0.0, 0.5)
    )
    added = filled - bare
    assert added.min() >= -1e-3
    assert (added[:, 12].sum(axis=0) > 0).all()
    spectrum = added.sum(axis=(0, 1))
    assert np.abs(np.diff(spectrum, 2)).max() < 0.02 * spectrum.max()


def test_truth_of_many_slices_waits_until_it_is_wanted(no_compute):
    ds = nd.simulate_scan(**SMALL, slices=3, **ALL, absorption=1.0)
    for name in ("true_phase_map", "true_strain", "true_transmission"):
        assert ds[name].chunks is not None, name
    assert ds.true_phase_map.chunks[0] == (1, 1, 1)
