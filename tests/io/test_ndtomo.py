import h5py
import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError, StoreError
from ndtomo_dask.io.hdf5 import HDF5Array
from ndtomo_dask.io.ndtomo import is_ndtomo, open_ndtomo

WIDTH, HEIGHT, CHANNELS = 10, 12, 7
Q = np.linspace(2.1, 4.5, CHANNELS)


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.fixture
def cube(rng):
    """A volume as nDTomo holds it. # (x, y, channel)"""
    return rng.random((WIDTH, HEIGHT, CHANNELS)).astype(np.float32)


def test_volume_is_turned_so_that_its_first_axis_is_horizontal(tmp_path, cube):
    path = write(tmp_path / "v.h5", data=cube, q=Q)
    assert is_ndtomo(path)
    ds = open_ndtomo(path)
    assert ds.volume.dims == ("y", "x", "channel")
    np.testing.assert_array_equal(ds.volume, cube.transpose(1, 0, 2))
    np.testing.assert_array_equal(ds.q, Q)
    assert ds.sel(d=slice(10, 0)).sizes["channel"] == CHANNELS
    assert "read as 1/angstrom" in ds.q.attrs["assumed"]


def test_opening_reads_no_data(tmp_path, cube, monkeypatch):
    path = write(tmp_path / "v.h5", data=cube, q=Q)
    monkeypatch.setattr(HDF5Array, "__getitem__", lambda *_: pytest.fail("data were read"))
    assert open_ndtomo(path).volume.chunks is not None


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_channel_axis_is_the_one_as_long_as_the_spectral_axis(tmp_path, cube, order):
    path = write(tmp_path / "v.h5", data=cube.transpose(order), tth=Q)
    np.testing.assert_array_equal(open_ndtomo(path).volume, cube.transpose(1, 0, 2))


def test_a_cube_has_its_channels_last(tmp_path, rng):
    cube = rng.random((7, 7, 7)).astype(np.float32)
    ds = open_ndtomo(write(tmp_path / "v.h5", data=cube, d=Q[::-1]))
    np.testing.assert_array_equal(ds.volume, cube.transpose(1, 0, 2))


def test_without_any_axis_channels_are_last(tmp_path, cube):
    ds = open_ndtomo(write(tmp_path / "v.h5", data=cube))
    np.testing.assert_array_equal(ds.volume, cube.transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("d", "d"),
        ("q", "q"),
        ("twotheta", "tth"),
        ("Energy", "energy"),
        ("tth", "tth"),
        ("energy", "energy"),
        ("xaxis", "channel"),
        ("Channel", "channel"),
    ],
)
def test_every_axis_name_of_ndtomo_is_read(tmp_path, cube, name, ours):
    ds = open_ndtomo(write(tmp_path / "v.h5", data=cube, **{name: Q}))
    np.testing.assert_array_equal(ds[ours], Q)
    assert "assumed" in ds[ours].attrs


def test_an_axis_of_another_length_is_passed_over_for_one_that_fits(tmp_path, cube):
    ds = open_ndtomo(write(tmp_path / "v.h5", data=cube, d=np.arange(1.0, 4), tth=Q))
    np.testing.assert_array_equal(ds.tth, Q)
    assert "d" not in ds.coords


def test_energies_beyond_500_are_electronvolts_and_say_so(tmp_path, cube):
    ds = open_ndtomo(write(tmp_path / "a.h5", data=cube, Energy=np.linspace(8230, 8530, 7)))
    np.testing.assert_allclose(ds.energy, np.linspace(8.23, 8.53, 7))
    assert ds.energy.attrs["assumed"] == "'Energy' has no unit in the file; read as eV"
    ds = open_ndtomo(write(tmp_path / "b.h5", data=cube, Energy=np.linspace(8.23, 8.53, 7)))
    np.testing.assert_array_equal(ds.energy, np.linspace(8.23, 8.53, 7))


def test_a_unit_in_the_file_is_believed(tmp_path, cube):
    path = write(tmp_path / "v.h5", data=cube, energy=np.linspace(100, 200, 7))
    with h5py.File(path, "a") as file:
        file["energy"].attrs["units"] = "eV"
    ds = open_ndtomo(path)
    np.testing.assert_allclose(ds.energy, np.linspace(0.1, 0.2, 7))
    assert "assumed" not in ds.energy.attrs


@pytest.mark.parametrize("name", ["angle", "angles", "theta"])
def test_angles_make_it_a_sinogram(tmp_path, cube, name):
    angles = np.arange(HEIGHT) * 15.0
    ds = open_ndtomo(write(tmp_path / "s.h5", data=cube, q=Q, **{name: angles}))
    assert ds.sinogram.dims == ("angle", "translation", "channel")
    np.testing.assert_array_equal(ds.sinogram, cube.transpose(1, 0, 2))
    np.testing.assert_array_equal(ds.angle, angles)


def test_angles_along_the_first_axis_are_found_by_their_length(tmp_path, cube):
    ds = open_ndtomo(write(tmp_path / "s.h5", data=cube, theta=np.arange(WIDTH) * 18.0))
    np.testing.assert_array_equal(ds.sinogram, cube)


def test_a_square_sinogram_has_its_angles_second(tmp_path, rng):
    data = rng.random((9, 9, CHANNELS)).astype(np.float32)
    ds = open_ndtomo(write(tmp_path / "s.h5", data=data, q=Q, angle=np.arange(9) * 20.0))
    np.testing.assert_array_equal(ds.sinogram, data.transpose(1, 0, 2))


def test_channel_first_sinogram(tmp_path, cube):
    data = cube.transpose(2, 0, 1)
    ds = open_ndtomo(write(tmp_path / "s.h5", data=data, q=Q, angle=np.arange(12) * 15.0))
    np.testing.assert_array_equal(ds.sinogram, cube.transpose(1, 0, 2))


def test_kind_decides_without_angles(tmp_path, cube):
    path = write(tmp_path / "s.h5", data=cube)
    ds = open_ndtomo(path, kind="sinogram")
    np.testing.assert_array_equal(ds.sinogram, cube.transpose(1, 0, 2))
    with pytest.raises(OptionError, match="kind='sino' is not known"):
        open_ndtomo(path, kind="sino")


def test_flat_sinogram_has_one_channel(tmp_path, cube):
    ds = open_ndtomo(write(tmp_path / "s.h5", data=cube[..., 0], angles=np.arange(12) * 15.0))
    np.testing.assert_array_equal(ds.sinogram[..., 0], cube[..., 0].T)


def test_volume_with_heights(tmp_path, rng):
    data = rng.random((4, 5, 3, CHANNELS)).astype(np.float32)  # (x, y, z, channel)
    ds = open_ndtomo(write(tmp_path / "v.h5", data=data, q=Q))
    assert ds.volume.dims == ("z", "y", "x", "channel")
    np.testing.assert_array_equal(ds.volume, data.transpose(2, 1, 0, 3))


def test_pattern(tmp_path):
    ds = open_ndtomo(write(tmp_path / "v_3_4.h5", I=np.arange(7.0), xaxis=Q))
    assert ds.spectrum.dims == ("channel",)
    np.testing.assert_array_equal(ds.spectrum, np.arange(7.0))
    np.testing.assert_array_equal(ds.channel, Q)


def test_channel_image_and_region_image(tmp_path, cube):
    image = cube[..., 2]
    ds = open_ndtomo(write(tmp_path / "a.h5", I=image, Channel=2))
    assert ds.image.dims == ("y", "x")
    np.testing.assert_array_equal(ds.image, image.T)
    assert ds.image.attrs["channel"] == 2
    ds = open_ndtomo(write(tmp_path / "b.h5", I=image, chi=2, chf=5))
    assert (ds.image.attrs["first_channel"], ds.image.attrs["last_channel"]) == (2, 5)


def test_fit_results(tmp_path, cube):
    names = ("Area", "Position", "FWHM", "bkga", "bkgb", "gamma")
    maps = {name: cube[..., i] for i, name in enumerate(names)}
    ds = open_ndtomo(write(tmp_path / "v_fit_results.h5", **maps))
    ours = ("peak_area", "peak_position", "peak_fwhm", "bkga", "bkgb", "peak_fraction")
    for name, theirs in zip(ours, names, strict=True):
        assert ds[name].dims == ("y", "x", "peak")
        np.testing.assert_array_equal(ds[name][..., 0], maps[theirs].T)
    assert "Lorentzian share" in ds.peak_fraction.attrs["assumed"]


def test_saved_peak_fits_are_in_numerical_order(tmp_path, rng):
    maps = rng.random((12, 4, 5)).astype(np.float32)
    kinds = ("Area", "Position", "FWHM")
    named = {f"Peak_{kind}_{i}": maps[i] * (1 + k) for k, kind in enumerate(kinds)
             for i in range(12)}  # fmt: skip
    ds = open_ndtomo(write(tmp_path / "fits.h5", **named))
    assert ds.sizes["peak"] == 12
    np.testing.assert_array_equal(ds.peak_area, maps.transpose(2, 1, 0))
    np.testing.assert_array_equal(ds.peak_position, 2 * maps.transpose(2, 1, 0))
    assert list(ds.peak.values[[2, 10]]) == ["2", "10"]


def test_unequal_peak_fits_are_refused(tmp_path):
    one = np.ones((3, 3))
    path = write(tmp_path / "fits.h5", Peak_Area_0=one, Peak_Area_1=one, Peak_Position_0=one)
    with pytest.raises(SchemaError, match="not as many areas as positions"):
        open_ndtomo(path)


def test_published_maps_keep_their_names(tmp_path, rng):
    maps = {"peak_area_gt": rng.random((4, 5)), "peak_area_cnn": rng.random((4, 5))}
    path = write(tmp_path / "results.h5", **maps, peak_area_concat=rng.random((4, 15)))
    assert is_ndtomo(path)
    ds = open_ndtomo(path)
    assert ds.peak_area_gt.dims == ("y", "x")
    np.testing.assert_array_equal(ds.peak_area_cnn, maps["peak_area_cnn"])
    assert ds.peak_area_concat.dims == ("y", "x_15")


@pytest.mark.parametrize("suffix", [".xy", ".asc"])
def test_two_columns_are_a_spectrum(tmp_path, suffix):
    path = tmp_path / f"pattern{suffix}"
    path.write_text("2.10000 0.00123\n2.20000 5.00000\n2.30000 1.00000\n")
    assert is_ndtomo(path)
    ds = open_ndtomo(path)
    np.testing.assert_array_equal(ds.spectrum, [0.00123, 5, 1])
    np.testing.assert_array_equal(ds.channel, [2.1, 2.2, 2.3])


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("1 a\n", StoreError, "is not a table of numbers"),
        ("1\n2\n", StoreError, "has 1 columns; expected two"),
        ("1 5\n1 6\n", SchemaError, "has the one value 1, 2 times"),
        ("1 5\n2 5\n2 5\n", SchemaError, "axis 'channel' is not monotonic"),
    ],
)
def test_other_text_is_refused(tmp_path, text, error, words):
    path = tmp_path / "pattern.xy"
    path.write_text(text)
    with pytest.raises(error, match=words):
        open_ndtomo(path)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"q": np.arange(5.0)}, r"axis 'q' of .* has 5 values, but no axis of 'data'"),
        ({"q": np.array([1.0, 2, 3, 2, 5, 6, 7])}, "axis 'q' is not monotonic: value 2 at index 3"),
        ({"q": np.ones(7)}, "axis 'q' of .* has the one value 1, 7 times"),
        ({"angle": np.arange(5.0)}, "axis 'angle' of .* has 5 values, but no axis of 'data'"),
    ],
)
def test_an_axis_that_does_not_fit_is_refused(tmp_path, cube, axes, words):
    with pytest.raises(SchemaError, match=words):
        open_ndtomo(write(tmp_path / "v.h5", data=cube, **axes))


def test_no_angles_are_refused(tmp_path):
    path = write(tmp_path / "s.h5", data=np.ones((10, 0, 7)), angle=np.ones(0))
    with pytest.raises(SchemaError, match="has no projection angles: 'angle' is empty"):
        open_ndtomo(path)


def test_a_foreign_file_is_refused_with_what_it_has(tmp_path):
    path = write(tmp_path / "other.h5", counts=np.ones(3))
    assert not is_ndtomo(path)
    with pytest.raises(StoreError, match=r"holds nothing that nDTomo writes.* It has: counts"):
        open_ndtomo(path)


def test_nexus_is_not_taken_for_ndtomo(tmp_path):
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file["entry/data/data"] = np.ones((3, 3))
    assert not is_ndtomo(tmp_path / "scan.nxs")
    assert not is_ndtomo(tmp_path / "scan.tif")
