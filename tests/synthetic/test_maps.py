import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.simulation.figures import Picture, draw_rows

KINDS = ("cells", "figures", "solids", "head")


def drawn(kind, **options):
    return nd.simulate_maps(kind, **{"size": 20, "cells": 40} | options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slices", [0, 5])
def test_any_row_of_a_phantom_can_be_drawn_alone(kind, slices):
    whole = drawn(kind, slices=slices).component_map.values
    picture = Picture(kind, 20, slices, 5, 40, 0)
    rows = whole.reshape(-1, *whole.shape[-2:])
    for number in np.random.default_rng(0).integers(0, len(rows), 9):
        np.testing.assert_array_equal(
            draw_rows(np.array([number]), picture=picture)[0], rows[number]
        )


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_do_not_change_a_bit(kind, monkeypatch):
    expected = drawn(kind, slices=3)
    monkeypatch.setattr("ndtomo_dask.synthetic.maps.LARGEST_BLOCK", 20 * 4 * 5 * 3)
    actual = drawn(kind, slices=3)
    assert actual.component_map.chunks != expected.component_map.chunks
    np.testing.assert_array_equal(actual.component_map, expected.component_map)


def test_drawing_waits(no_compute):
    maps = nd.simulate_maps(size=1024, slices=128, cells=10)
    spectra = nd.simulate_spectra(channels=2048)
    for layout in ("images", "spectra"):
        volume = nd.simulate_volume(maps, spectra, layout=layout).volume
        assert volume.nbytes > 1e12
        assert np.prod(volume.data.chunksize) * 4 <= 128e6


def test_cells_hold_each_component_and_lie_in_a_cylinder():
    maps = drawn("cells", size=64, slices=8, cells=300).component_map.compute()
    assert (maps.max(("z", "y", "x")) > 0.5).all()
    outside = np.hypot(maps.y, maps.x) > 0.43 * 64 * 0.02
    assert float(maps.where(outside).max()) == 0
    inside = maps.where(~outside).sum("component")
    assert 0.7 < float((inside > 0).where(np.hypot(maps.y, maps.x) < 0.5).mean()) <= 1
    first, other = (nd.simulate_maps(size=32, seed=seed).component_map for seed in (0, 1))
    assert (first != other).any()


@pytest.mark.parametrize("layout", ["images", "spectra"])
@pytest.mark.parametrize("frames", [0, 3])
def test_a_volume_is_the_sum_of_maps_times_spectra(layout, frames, monkeypatch):
    maps, spectra = drawn("figures", slices=2), nd.simulate_spectra(channels=40, frames=frames)
    expected = maps.component_map.astype(float).dot(spectra.component_spectrum, "component")
    monkeypatch.setattr("ndtomo_dask.synthetic.maps.BLOCK", 20 * 20 * 4 * 17)
    ds = nd.simulate_volume(maps, spectra, layout=layout)
    volume = ds.volume
    assert volume.dtype == "float32"
    assert len(volume.chunks[volume.dims.index("channel" if layout == "images" else "y")]) > 1
    np.testing.assert_allclose(volume, expected.transpose(*volume.dims), rtol=1e-5, atol=1e-6)
    assert {"q", "tth"} <= set(ds.xindexes)


def test_layouts_and_memory_do_not_change_a_bit(monkeypatch):
    maps, spectra = drawn("cells", slices=2), nd.simulate_spectra(channels=40, frames=2)
    expected = nd.simulate_volume(maps.load(), spectra).volume
    monkeypatch.setattr("ndtomo_dask.synthetic.maps.BLOCK", 20 * 20 * 4 * 7)
    for layout in ("images", "spectra"):
        made = nd.simulate_volume(drawn("cells", slices=2), spectra, layout=layout).volume
        np.testing.assert_array_equal(made, expected)


def test_maps_may_change_in_time_with_their_spectra():
    first, last = drawn("cells").component_map, drawn("cells", seed=1).component_map
    series = xr.concat([first, last], "time").to_dataset()
    spectra = nd.simulate_spectra(channels=30, frames=2)
    made = nd.simulate_volume(series, spectra).volume
    alone = nd.simulate_volume(last.to_dataset(), spectra.isel(time=1)).volume
    np.testing.assert_allclose(made.isel(time=1), alone, rtol=1e-6)
    with pytest.raises(SchemaError, match="spectra of 3 frames for maps of 2: pass frames=2"):
        nd.simulate_volume(series, nd.simulate_spectra(channels=30, frames=3))


def test_a_volume_can_be_projected_and_spoilt():
    ds = nd.simulate_volume(drawn("cells", slices=2), nd.simulate_spectra(channels=30))
    scan = nd.project(ds, angles=np.arange(0, 180, 12.0))
    scan = scan[["projected_sinogram"]].rename(projected_sinogram="sinogram") * 1000
    spoilt = nd.simulate_defects(scan.chunk(angle=5, channel=-1), spots=3)
    assert float(spoilt.sinogram.sum()) > float(scan.sinogram.sum()) > 0


def test_too_few_spectra_and_empty_phantoms_are_refused():
    with pytest.raises(SchemaError, match="5 spectra for 8 maps: pass components=5"):
        nd.simulate_volume(drawn("solids"), nd.simulate_spectra())
    with pytest.raises(OptionError, match="Did you mean 'cells'"):
        nd.simulate_maps("cell")
    with pytest.raises(OptionError, match="needs size >= 2"):
        nd.simulate_maps(size=1)
