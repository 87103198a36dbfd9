import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.simulation.acquisition import interlaced_angles
from tests.tolerances import BACKEND

ORDERS = [
    {"path": path, "fast": fast, "motion": motion, "passes": passes}
    for path in ("zigzig", "zigzag")
    for fast, motion in (("translation", "stepped"), ("translation", "fast"),
                         ("translation", "continuous"), ("rotation", "fast"))
    for passes in (1, 3)
]  # fmt: skip
SIZES = {"angles": 8, "translations": 5}


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(map(str, order.values())))
def test_every_ray_is_visited_once_and_time_goes_on(order):
    table = nd.simulate_acquisition(**SIZES, **order)
    rays = {*zip(table.angle_number.values, table.translation_number.values, strict=True)}
    assert len(rays) == table.sizes["point"] == 40
    assert (np.diff(table.time) >= 0.0999).all()
    turned = table.angle / 22.5 - table.angle_number
    assert float(turned.min()) >= 0
    assert float(turned.max()) < 1
    assert bool((turned > 0).all()) == (order["motion"] == "continuous")


def test_lines_run_there_and_back_or_always_there():
    columns = {
        path: nd.simulate_acquisition(**SIZES, path=path).translation_number.values.reshape(8, 5)
        for path in ("zigzig", "zigzag")
    }
    assert (columns["zigzig"] == np.arange(5)).all()
    assert (columns["zigzag"][::2] == np.arange(5)).all()
    assert (columns["zigzag"][1::2] == np.arange(5)[::-1]).all()


def test_a_rotation_may_be_the_fast_motion():
    table = nd.simulate_acquisition(**SIZES, fast="rotation", path="zigzag")
    assert (table.translation_number.values.reshape(5, 8) == np.arange(5)[:, None]).all()
    assert (table.angle_number.values.reshape(5, 8)[1] == np.arange(8)[::-1]).all()


def test_steps_and_ways_back_take_time():
    ends = {
        (motion, path): float(nd.simulate_acquisition(**SIZES, motion=motion, path=path).time[-1])
        for motion in ("stepped", "fast", "continuous")
        for path in ("zigzig", "zigzag")
    }
    assert ends["fast", "zigzag"] == pytest.approx(40 * 0.1 - 0.05 + 7 * 0.2)
    assert ends["stepped", "zigzag"] == pytest.approx(ends["fast", "zigzag"] + 39 * 0.2 - 0.0)
    assert ends["continuous", "zigzag"] == pytest.approx(40 * 0.1 - 0.05)
    assert ends["fast", "zigzig"] == pytest.approx(ends["fast", "zigzag"] + 7 * 0.5)


@pytest.mark.parametrize("interlacing", ["golden", "binary", "sequential"])
@pytest.mark.parametrize(("angles", "passes"), [(16, 4), (17, 4), (30, 7), (5, 5)])
def test_passes_visit_all_angles_each_evenly(interlacing, angles, passes):
    order = interlaced_angles(angles, passes, interlacing)
    assert sorted(order) == list(range(angles))
    first = order[: len(range(0, angles, passes))]
    assert (np.diff(first) == passes).all()


def test_two_of_four_passes_already_cover_the_half_turn_evenly():
    order = interlaced_angles(16, 4, "binary")
    assert (np.diff(sorted(order[:8])) == 2).all()
    # nDTomo visits its passes in plain order, and leaves wide gaps.
    assert np.diff(sorted(interlaced_angles(16, 4, "sequential")[:8])).max() == 3


def series(first, last):
    return nd.simulate_volume(
        xr.concat([first.component_map, last.component_map], "time").to_dataset(),
        nd.simulate_spectra(channels=12, frames=2, drift=0.0),
    )


@pytest.fixture
def maps():
    return nd.simulate_maps(size=24, cells=30).load()


def test_a_sample_that_stands_still_gives_its_sinogram_in_any_order(maps):
    ds = series(maps, maps)
    expected = nd.project(ds.isel(time=0), angles=np.arange(8) * 22.5).projected_sinogram
    for motion in ("stepped", "fast"):
        table = nd.simulate_acquisition(angles=8, translations=24, motion=motion, passes=2)
        made = nd.simulate_measurement(ds, table)
        assert made.sinogram.dims == ("angle", "translation", "channel")
        difference = np.linalg.norm(made.sinogram - expected) / np.linalg.norm(expected)
        assert difference < BACKEND
    assert made.true_time.shape == (8, 24)


def test_each_ray_sees_the_sample_at_its_own_time(maps):
    empty = maps.assign(component_map=0 * maps.component_map)
    ds = series(empty, maps)
    table = nd.simulate_acquisition(angles=6, translations=24, passes=3)
    ds = ds.assign_coords(time=[0.0, float(table.time.max())])
    made = nd.simulate_measurement(ds, table).sinogram
    full = nd.simulate_measurement(series(maps, maps), table)
    share = full.true_time / float(table.time.max())
    np.testing.assert_allclose(made, full.sinogram * share, rtol=1e-4, atol=1e-4)


def test_a_rotation_that_never_stops_sees_between_the_angles(maps):
    ds = series(maps, maps)
    table = nd.simulate_acquisition(angles=90, translations=24, motion="continuous")
    made = nd.simulate_measurement(ds, table)
    column = 11
    advance = float(made.true_angle[0, column])
    assert 0 < advance < 2
    exact = nd.simulate_measurement(
        ds, nd.simulate_acquisition(angles=90 * 48, translations=24)
    ).sinogram[round(advance * 24), column]
    np.testing.assert_allclose(made.sinogram[0, column], exact, rtol=0.05, atol=0.02)


def test_measuring_is_lazy_and_says_what_it_needs(maps, no_compute):
    ds = series(nd.simulate_maps(size=24), nd.simulate_maps(size=24, seed=1))
    table = nd.simulate_acquisition(angles=6, translations=24)
    assert nd.simulate_measurement(ds, table).sinogram.chunks is not None
    with pytest.raises(SchemaError, match="needs a series: simulate_volume"):
        nd.simulate_measurement(ds.isel(time=0), table)
    with pytest.raises(SchemaError, match="takes the table of simulate_acquisition"):
        nd.simulate_measurement(ds, table.drop_vars("angle_number"))
    with pytest.raises(OptionError, match="passes=9 must lie between 1 and the 8 angles"):
        nd.simulate_acquisition(angles=8, passes=9)
    with pytest.raises(OptionError, match="turns while it translates: fast='translation'"):
        nd.simulate_acquisition(motion="continuous", fast="rotation")
