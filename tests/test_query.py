import numpy as np
import pytest

from ndtomo_dask import image, reconstruct, spectrum
from ndtomo_dask.errors import SchemaError
from tests.laws import relative_error
from tests.tolerances import ROUNDING

F32 = ROUNDING[np.dtype("float32")]


@pytest.fixture
def volume(scan):
    return reconstruct(scan)


def test_an_image_is_the_mean_of_its_window(volume):
    window = (2.6, 2.8)
    inside = (volume.q >= 2.6) & (volume.q <= 2.8)
    expected = volume.volume.values[..., inside.values].mean(axis=-1)
    made = image(volume, window=window, axis="q")
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-3)
    assert made.dims == ("y", "x")
    assert made.attrs["units"] == "count/mm"
    np.testing.assert_array_equal(image(volume, window=window[::-1], axis="q"), made)


def test_a_spectrum_is_the_mean_of_its_region_without_nan(volume):
    region = volume.true_phase_map.sel(phase="Al", drop=True) > 0.5
    expected = volume.volume.values[region.values].mean(axis=0, dtype=float)
    np.testing.assert_allclose(spectrum(volume, region=region), expected, rtol=1e-4, atol=1e-3)
    volume.volume[0, 0] = np.nan
    assert np.isfinite(spectrum(volume)).all()


@pytest.mark.parametrize("make", [lambda ds: image(ds, window=(2.6, 2.9), axis="q"), spectrum])
def test_views_are_lazy_and_do_not_depend_on_the_chunks(make, volume, no_compute):
    import dask

    expected = make(volume)
    for chunks in ({"channel": 7}, {"y": 9, "x": 5}):
        made = make(volume.chunk(chunks))
        assert made.chunks is not None
        with dask.config.set(scheduler="synchronous"):
            assert relative_error(made, expected) <= F32


def test_bad_input_is_refused_in_words(volume):
    with pytest.raises(
        SchemaError, match=r"no channel lies in the window \(9, 10\) of axis 'q'.*2.1"
    ):
        image(volume, window=(9, 10), axis="q")
    with pytest.raises(SchemaError, match="spectrum was given a region without a pixel"):
        spectrum(volume, region=volume.true_strain > 1e9)
    with pytest.raises(
        SchemaError, match=r"image was asked for variable='volum'.*Did you mean 'volume'"
    ):
        image(volume, variable="volum")
