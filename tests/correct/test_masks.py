"""Channels left out, and gaps filled."""

import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy

HOT, DEAD = [12, 30, 31, 55], [3, 44]
CHUNKS = [{"angle": 7}, {"channel": 13}, {"angle": 11, "channel": 25}]


@pytest.fixture
def faulty(scan, rng):
    bad = scan.copy(deep=True)
    top = float(scan.sinogram.max())
    for channel in HOT:
        bad.sinogram[..., channel] += rng.poisson(2 * top, bad.sinogram.shape[:2])
    bad.sinogram[..., DEAD] = 0.0
    return bad


def test_hot_and_dead_channels_are_found_and_no_others(faulty):
    found = nd.find_bad_channels(faulty).bad_channel
    np.testing.assert_array_equal(np.flatnonzero(found == 1), HOT)
    np.testing.assert_array_equal(np.flatnonzero(found == 2), DEAD)
    assert found.attrs["flag_meanings"] == "good hot dead"
    for chunks in CHUNKS:
        np.testing.assert_array_equal(nd.find_bad_channels(faulty.chunk(chunks)).bad_channel, found)


def test_reflections_are_not_hot_channels(clean_scan, scan):
    for ds in (clean_scan, scan, nd.remove_air(scan)):
        assert not nd.find_bad_channels(ds).bad_channel.any()


def test_channels_are_masked_by_what_was_found_by_number_and_by_range(faulty):
    by_find = nd.mask_channels(faulty.chunk(channel=9), nd.find_bad_channels(faulty)).mask
    by_number = nd.mask_channels(faulty, channels=[*HOT, *DEAD]).mask
    np.testing.assert_array_equal(by_find, by_number)
    q = faulty.q.values
    by_range = nd.mask_channels(faulty, ranges=[[q[5], q[8]]], axis="q")
    np.testing.assert_array_equal(np.flatnonzero(by_range.mask), [5, 6, 7, 8])
    assert_keeps(faulty, by_range, "mask_channels")


def test_a_mask_is_added_to_the_one_there_is(faulty):
    angles = xr.DataArray(np.arange(40) == 6, dims="angle")
    both = nd.mask_channels(faulty.assign(mask=angles), channels=[-1]).mask
    assert both.dims == ("angle", "channel")
    np.testing.assert_array_equal(both, angles.values[:, None] | (np.arange(60) == 59))
    nd.reconstruct(nd.mask_channels(faulty.assign(mask=angles), channels=[-1]).chunk())


@pytest.mark.parametrize("along", ["channel", "angle", "translation"])
def test_gaps_are_filled_linearly(along, scan):
    axis = scan.sinogram.dims.index(along)
    slope = np.arange(scan.sizes[along], dtype=float).reshape(
        [-1 if i == axis else 1 for i in range(3)]
    )
    ramp = scan.assign(sinogram=scan.sinogram * 0 + slope)
    gap = xr.DataArray(np.isin(np.arange(scan.sizes[along]), [5, 6, 20]), dims=along)
    spoilt = ramp.assign(sinogram=ramp.sinogram.where(~gap, 1e6), mask=gap)
    made = nd.interpolate_masked(spoilt, along=along)
    np.testing.assert_allclose(made.sinogram, ramp.sinogram, atol=1e-5)
    np.testing.assert_array_equal(made.filled, gap)
    assert "mask" not in made
    assert int(made.replaced_samples.sum()) == 3 * scan.sinogram.size // scan.sizes[along]


@pytest.mark.parametrize("along", ["channel", "angle"])
def test_what_was_there_stays_and_variance_is_nan_where_it_was_not(along, scan, rng):
    lost = rng.random(scan.sinogram.shape) < 0.1
    lost[:, 3, 7] = True
    bad = scan.assign(sinogram=scan.sinogram.where(~lost), sinogram_variance=scan.sinogram + 1)
    before = bad.copy(deep=True)
    made = nd.interpolate_masked(bad, along=along)
    xr.testing.assert_identical(bad, before)
    np.testing.assert_array_equal(made.sinogram.values[~lost], scan.sinogram.values[~lost])
    np.testing.assert_array_equal(np.isnan(made.sinogram_variance), lost)
    unfilled = np.isnan(made.sinogram.values)
    assert unfilled[:, 3, 7].all() == (along == "angle")
    assert unfilled.sum() == (scan.sizes["angle"] if along == "angle" else 0)
    assert int(made.replaced_samples.sum()) == lost.sum() - unfilled.sum()


@pytest.mark.parametrize("along", ["channel", "angle", "translation"])
def test_filling_does_not_depend_on_the_chunks(along, scan, rng):
    bad = scan.assign(sinogram=scan.sinogram.where(rng.random(scan.sinogram.shape) > 0.1))
    bad = nd.mask_channels(bad, channels=[7, 8, 30])
    chunks = [{dim: 7} for dim in ("angle", "channel") if dim != along]

    def verb(ds):
        return nd.interpolate_masked(ds, along=along).drop_vars("replaced_samples", errors="ignore")

    assert_lazy(verb, bad.assign(sinogram=bad.sinogram.chunk(chunks[0])))  # a mask is in memory
    assert_chunk_invariant(verb, bad, chunks)


def test_counts_of_what_was_filled_need_whole_images(scan):
    bad = nd.mask_channels(scan, channels=[7])
    assert "replaced_samples" not in nd.interpolate_masked(bad.chunk(angle=9))
    made = nd.interpolate_masked(bad.chunk(), along="channel")
    assert int(made.replaced_samples[7]) == 40 * 32
    assert made.replaced_samples.dtype == "int64"


def test_bad_input_is_refused_in_words(scan):
    with pytest.raises(OptionError, match=r"mask_channels was told no channels: give what find_"):
        nd.mask_channels(scan)
    with pytest.raises(OptionError, match=r"channel 60 does not exist: there are 60, from 0"):
        nd.mask_channels(scan, channels=[60])
    with pytest.raises(OptionError, match="range 90 to 91 has no channel: axis 'tth' goes from"):
        nd.mask_channels(scan, ranges=[[90, 91]])
    with pytest.raises(OptionError, match=r"range \[2, 1\] must be two values in order"):
        nd.mask_channels(scan, ranges=[[2, 1]])
    with pytest.raises(SchemaError, match="given 'bad_channel' of 60 channels, but the sinogram"):
        nd.mask_channels(scan.isel(channel=slice(9)), nd.find_bad_channels(scan))
    with pytest.raises(OptionError, match="contrast=1 and neighbors=3 must be more than 1"):
        nd.find_bad_channels(scan, contrast=1)
    with pytest.raises(OptionError, match=r"along=.channels. is not known. Did you mean .channel."):
        nd.interpolate_masked(scan, along="channels")
    with pytest.raises(SchemaError, match="interpolate_masked needs whole spectra"):
        nd.interpolate_masked(scan.chunk(channel=10))


@pytest.mark.parametrize("along", ["channel", "angle"])
def test_a_recipe_finds_masks_and_fills(along, faulty, tmp_path):
    nd.save(faulty[["sinogram"]].chunk(angle=10), tmp_path / "scan.zarr")
    content = {
        "input": str(tmp_path / "scan.zarr"),
        "output": str(tmp_path / "out.zarr"),
        "steps": ["find_bad_channels", "mask_channels", {"interpolate_masked": {"along": along}}],
        "save": ["sinogram", "filled", "replaced_samples"],
    }
    made = run_recipe(make_recipe(content))
    typed = nd.mask_channels(faulty, nd.find_bad_channels(faulty))
    typed = nd.interpolate_masked(typed, along=along)
    np.testing.assert_array_equal(made.sinogram, typed.sinogram)
    np.testing.assert_array_equal(made.filled, typed.filled)
