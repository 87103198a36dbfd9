import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from tests.laws import assert_chunk_invariant, assert_lazy


@pytest.fixture
def rings():
    place = (np.arange(41) - 20) * 0.1
    y, x = np.meshgrid(place, place, indexing="ij")
    smooth = np.exp(-np.hypot(x, y))[..., None] * np.array([1, 2, 3])
    tilted = (x + 2 * y)[..., None] * np.ones(3)
    volume = np.stack([smooth, tilted]).astype(np.float32)
    return xr.Dataset({"volume": (("z", "y", "x", "channel"), volume)}, {"y": place, "x": place})


@pytest.mark.parametrize("order", [1, 3])
def test_rings_become_lines_and_planes_become_sines(rings, order):
    made = nd.to_polar(rings, azimuths=90, order=order)
    assert made.polar_volume.dims == ("z", "radius", "azimuth", "channel")
    assert made.polar_volume.dtype == np.float32
    assert float(made.radius[-1]) == pytest.approx(2.0)
    ring = made.polar_volume[0, 10, :, 1]
    np.testing.assert_allclose(ring, 2 * np.exp(-1.0), rtol=0.01)
    turn = np.deg2rad(made.azimuth.values)
    np.testing.assert_allclose(
        made.polar_volume[1, 12, :, 0], 1.2 * (np.cos(turn) + 2 * np.sin(turn)), atol=1e-5
    )


def test_it_is_lazy_and_a_bad_channel_stays_alone(rings):
    assert_lazy(nd.to_polar, rings.chunk(channel=1))
    assert_chunk_invariant(nd.to_polar, rings, [{"z": 1, "channel": 2}])
    rings.volume[0, 20, 25, 1] = np.nan
    bad = np.isnan(nd.to_polar(rings).polar_volume.values)
    assert bad[0, ..., 1].any()
    assert not bad[..., [0, 2]].any()
    with pytest.raises(OptionError, match="order 1 or 3, not 360, 2"):
        nd.to_polar(rings, order=2)


SAMPLED_TWICE = {1: 0.03, 3: 0.003}
"""Of values up to 3, by order: interpolated there and back."""


@pytest.mark.parametrize("order", [1, 3])
def test_there_and_back_is_the_image_again(rings, order):
    y, x = np.meshgrid(rings.y, rings.x, indexing="ij")
    smooth = np.exp(-((x - 0.5) ** 2 + (y + 0.3) ** 2))[..., None] * np.array([1.0, 2.0, 3.0])
    ds = rings.assign(volume=(("y", "x", "channel"), smooth.astype(np.float32)))
    polar = nd.to_polar(ds, azimuths=181, order=order)
    made = nd.to_cartesian(polar, order=order).cartesian_volume
    assert made.dims == ("y", "x", "channel")
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made.y, rings.y)
    outside = np.hypot(x, y) > 2.0 + 1e-9
    assert np.isnan(made.values[outside]).all()
    assert np.isfinite(made.values[np.hypot(x, y) < 1.99]).all()
    kept = np.hypot(x, y) < 1.5  # splines do not know how the image goes on beyond its edge
    difference = made.values[kept] - smooth[kept]
    assert np.abs(difference).max() < SAMPLED_TWICE[order]
    alone = nd.to_cartesian(polar.drop_vars("volume").drop_dims(["y", "x"], errors="ignore"))
    np.testing.assert_allclose(alone.y, rings.y, atol=1e-12)


def test_back_is_lazy_and_a_bad_channel_stays_alone(rings):
    polar = nd.to_polar(rings, azimuths=45)
    assert_lazy(nd.to_cartesian, polar.chunk(channel=1))
    assert_chunk_invariant(nd.to_cartesian, polar, [{"z": 1, "channel": 2}])
    clean = nd.to_cartesian(polar).cartesian_volume.values
    polar.polar_volume[0, 5, 5, 1] = np.nan
    made = nd.to_cartesian(polar).cartesian_volume.values
    np.testing.assert_array_equal(made[..., [0, 2]], clean[..., [0, 2]])
    assert np.isnan(made[0, ..., 1]).sum() > np.isnan(clean[0, ..., 1]).sum()


def test_what_is_no_circle_is_refused(rings):
    polar = nd.to_polar(rings, azimuths=45)
    with pytest.raises(SchemaError, match="around a full turn, as to_polar makes them"):
        nd.to_cartesian(polar.isel(azimuth=slice(10)))
    with pytest.raises(SchemaError, match="even steps from 0"):
        nd.to_cartesian(polar.isel(radius=slice(3, None)))
    with pytest.raises(OptionError, match="order 1 or 3, not 2"):
        nd.to_cartesian(polar, order=2)
    with pytest.raises(SchemaError, match="to_cartesian needs 'polar_volume'"):
        nd.to_cartesian(rings)
