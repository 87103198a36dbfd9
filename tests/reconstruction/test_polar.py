import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError
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
