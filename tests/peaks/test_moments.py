import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import (
    maps_from_volume,
    open_scan,
    peak_moments,
    position_from_moments,
    reconstruct,
    save,
    sinogram_from_maps,
)
from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error
from tests.tolerances import ROUNDING

Q = np.linspace(2.0, 3.0, 200)
WINDOWS = {"first": (2.1, 2.5), "second": (2.5, 2.9)}
EXACT = 1e-9
F32 = 100 * ROUNDING[np.dtype("float32")]
"""Sums of products that cancel: the first moment is a difference of two halves of a peak."""


def peak(center, sigma, area):
    unit = np.exp(-(((Q - center[..., None]) / sigma[..., None]) ** 2) / 2)
    return area[..., None] * unit / (sigma[..., None] * np.sqrt(2 * np.pi))


@pytest.fixture
def truth(rng):
    drawn = {"area": rng.uniform(1, 5, (4, 5, 2)), "width": rng.uniform(0.02, 0.03, (4, 5, 2))}
    return drawn | {"position": rng.uniform(-0.03, 0.03, (4, 5, 2)) + np.array([2.3, 2.7])}


@pytest.fixture
def volume(truth):
    of_peak = [[truth[name][..., i] for name in ("position", "width", "area")] for i in range(2)]
    data = 3 - Q + sum(peak(*one) for one in of_peak)
    about = {"units": "count/mm", "long_name": "reconstructed intensity"}
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data, about)})
    ds = ds.assign_coords(q=("channel", Q, {"units": "1/angstrom"}), y=np.arange(4) * 0.1)
    return record(ds.set_xindex("q"), "test")


def verb(ds, **options):
    return peak_moments(ds, **({"windows": WINDOWS, "axis": "q"} | options))


def test_moments_are_lazy_and_keep_labels(volume):
    made = assert_lazy(verb, volume.chunk(y=2))
    assert_keeps(volume, made, "peak_moments")
    assert made.peak.values.tolist() == ["first", "second"]
    assert made.moment_area.dims == ("y", "x", "peak")
    assert made.moment_area.attrs["units"] == "count/mm*1/angstrom"
    assert made.moment_position.attrs["units"] == made.moment_width.attrs["units"] == "1/angstrom"
    assert made.moment_position.attrs["additive"] == 0
    assert "additive" not in made.moment_area.attrs


def test_areas_positions_and_widths_are_those_of_the_peaks(volume, truth):
    made = verb(volume)
    for name, expected in truth.items():
        np.testing.assert_allclose(made[f"moment_{name}"], expected, rtol=1e-4)


def test_moments_do_not_depend_on_the_chunks(volume):
    stack = xr.concat([volume, 2 * volume], "z").assign_attrs(volume.attrs)
    stack = stack.assign(volume=stack.volume.astype("float32"))
    assert_chunk_invariant(verb, stack, [{}, {"y": 1}, {"z": 1, "y": 3, "x": 2}])


def test_a_nan_or_an_empty_pixel_is_nan_in_its_own_window(volume):
    expected = verb(volume)
    bad = volume.copy(deep=True)
    bad.volume[1, 2, 60], bad.volume[3, 3] = np.nan, -1.0
    made = verb(bad)
    assert np.isnan(made.moment_area[1, 2, 0])
    np.testing.assert_array_equal(made.moment_area[1, 2, 1], expected.moment_area[1, 2, 1])
    assert np.isnan(made.moment_position[3, 3]).all()
    assert abs(made.moment_area[3, 3]).max() < EXACT
    others = np.ones((4, 5), bool)
    others[[1, 3], [2, 3]] = False
    for name in ("moment_area", "moment_position", "moment_width"):
        np.testing.assert_array_equal(made[name].values[others], expected[name].values[others])


def test_moments_are_linear_and_positions_are_not(volume):
    one, two = verb(volume), verb(volume.isel(y=slice(None, None, -1)))
    both = verb(volume.assign(volume=volume.volume + volume.volume.values[::-1]))
    for name in ("moment_area", "moment_first", "moment_second"):
        total = one[name].values + two[name].values
        np.testing.assert_allclose(both[name], total, atol=EXACT)
    total = one.moment_position.values + two.moment_position.values
    assert abs(both.moment_position.values - total).min() > 1


def test_moments_of_rays_are_reconstructed_to_those_of_pixels(clean_scan):
    """The same positions, whether peaks are summed before or after they are reconstructed."""
    windows = {"a": (2.55, 2.85), "b": (3.0, 3.3)}
    names = ["moment_area", "moment_first", "moment_second"]
    rays = peak_moments(clean_scan.chunk(angle=10), windows=windows, axis="q", variable="sinogram")
    scan = sinogram_from_maps(rays, names)
    assert scan.sizes["channel"] == 6
    assert scan.sinogram.chunks is not None
    maps = maps_from_volume(reconstruct(scan))
    pixels = peak_moments(reconstruct(clean_scan), windows=windows, axis="q")
    for name in names:
        assert maps[name].dims == ("y", "x", "peak")
        assert relative_error(maps[name], pixels[name]) < F32
    assert maps.moment_area.attrs["units"] == "count*1/angstrom/mm"
    found = position_from_moments(maps)
    strong = pixels.moment_area > 0.2 * pixels.moment_area.max()
    both = strong & pixels.moment_position.notnull() & found.moment_position.notnull()
    assert int(both.sum()) > 50
    difference = abs(found.moment_position - pixels.moment_position).where(both)
    assert float(difference.max()) < 1e-4
    assert found.moment_position.attrs["units"] == "1/angstrom"


def test_masked_rays_have_no_moments_and_are_left_out(clean_scan):
    windows, names = {"a": (2.55, 2.85)}, ["moment_area"]
    mask = xr.DataArray(np.arange(40) == 7, dims="angle")
    spoiled = clean_scan.copy(deep=True).assign(mask=mask)
    spoiled.sinogram[7] = 1e6
    rays = peak_moments(spoiled, windows=windows, axis="q", variable="sinogram")
    assert np.isnan(rays.moment_area[7]).all()
    made = maps_from_volume(reconstruct(sinogram_from_maps(rays, names)))
    pixels = peak_moments(reconstruct(spoiled), windows=windows, axis="q")
    assert relative_error(made.moment_area, pixels.moment_area) < F32


def test_one_map_without_peaks_is_reconstructed(clean_scan):
    image = clean_scan.sinogram.sum("channel").rename("total").assign_attrs(units="count")
    scan = sinogram_from_maps(clean_scan.drop_vars("sinogram").assign(total=image), "total")
    made = maps_from_volume(reconstruct(scan))
    expected = reconstruct(clean_scan).volume.sum("channel")
    assert made.total.dims == ("y", "x")
    assert made.total.attrs["units"] == "count/mm"
    assert relative_error(made.total, expected) < F32


def test_reconstructed_maps_are_stored_and_found_again(clean_scan, tmp_path):
    rays = peak_moments(clean_scan, windows={"a": (2.55, 2.85)}, axis="q", variable="sinogram")
    volume = reconstruct(sinogram_from_maps(rays, ["moment_area", "moment_first", "moment_second"]))
    save(volume[["volume"]], tmp_path / "maps.zarr")
    again = position_from_moments(maps_from_volume(open_scan(tmp_path / "maps.zarr")))
    expected = position_from_moments(maps_from_volume(volume))
    np.testing.assert_array_equal(again.moment_position, expected.moment_position)


def test_what_does_not_add_is_refused(clean_scan):
    rays = peak_moments(clean_scan, windows={"a": (2.55, 2.85)}, axis="q", variable="sinogram")
    message = r"'moment_position' \(center of mass of the peak\), which does not add along a ray"
    with pytest.raises(SchemaError, match=f"sinogram_from_maps was given {message}"):
        sinogram_from_maps(rays, ["moment_area", "moment_position"])
    disguised = rays.drop_dims("channel").rename(moment_position="sinogram", peak="channel")
    with pytest.raises(SchemaError, match=r"reconstruct was given 'sinogram' \(center of mass"):
        reconstruct(disguised)
    with pytest.raises(SchemaError, match=r"Did you mean 'moment_area'"):
        sinogram_from_maps(rays, ["moment_aera"])
    pixels = peak_moments(reconstruct(clean_scan), windows={"a": (2.5, 2.8)}, axis="q")
    with pytest.raises(SchemaError, match=r"needs maps \(angle, translation, peak\)"):
        sinogram_from_maps(pixels, ["moment_area"])
    with pytest.raises(OptionError, match=r"needs variables, such as \['peak_area'\]"):
        sinogram_from_maps(rays, [])
    with pytest.raises(SchemaError, match=r"needs a volume with 'map_variable'"):
        maps_from_volume(reconstruct(clean_scan))
    with pytest.raises(SchemaError, match=r"needs the coordinates 'moment_origin'"):
        position_from_moments(rays.drop_vars("moment_origin"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": {}}, r"needs a window per peak"),
        ({"windows": {"a": 2.0}}, r"it must be \(first, last\)"),
        ({"windows": {"a": (5, 6)}}, r"window 'a' \(5, 6\) holds 0 channels of axis 'q'"),
        ({"background": 2}, r"background=2 must be 0, 1 or None"),
        ({"edges": 0.6}, r"edges=0.6 must be more than 0, and 0.5 at most"),
        ({"axis": "energy"}, r"axis 'energy', but the data have q"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(options, message, volume, no_compute):
    with pytest.raises((SchemaError, OptionError), match=message):
        verb(volume.chunk(y=3), **options)
