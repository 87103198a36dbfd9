import numpy as np
import pytest

from ndtomo_dask.errors import OptionError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.filters import WINDOWS
from ndtomo_dask.kernels.projectors import load_projector
from ndtomo_dask.kernels.solvers import fbp
from ndtomo_dask.kernels.solvers.filtered import window_response
from tests.laws import relative_error
from tests.solver_cases import blobs, half_turn, operator

ONE_FILTER = 1e-10
"""Relative L2 in float64 between two ways of writing down one filter: rounding of transforms."""


class Plain:
    """An operator without a back-projection of its own."""

    def __init__(self, A):
        self.geometry, self.project, self.T = A.geometry, A, A.T

    def __call__(self, volume):
        return self.project(volume)


@pytest.fixture
def A():
    return Plain(operator(48, 60))


@pytest.fixture
def sinogram(A):
    return A(blobs(48, 2))


@pytest.mark.parametrize("name", WINDOWS)
def test_a_named_window_is_the_same_as_its_function_and_its_values(A, sinogram, name):
    expected = fbp(A, sinogram, filter_name=name)
    assert relative_error(fbp(A, sinogram, filter_name=WINDOWS[name]), expected) <= ONE_FILTER
    values = WINDOWS[name](np.linspace(0, 0.5, 5001))
    assert relative_error(fbp(A, sinogram, filter_name=values), expected) <= 1e-6  # interpolated


def test_without_a_filter_it_is_the_back_projection(A, sinogram):
    weighted = sinogram * A.geometry.weights[:, None, None]
    np.testing.assert_array_equal(fbp(A, sinogram, filter_name=None), A.T(weighted))


def test_a_cutoff_lets_no_higher_frequency_pass(A):
    u = np.arange(48)
    wave = np.cos(2 * np.pi * 0.4 * u)[None, :, None] * np.hanning(48)[None, :, None]
    wave = np.repeat(wave, 60, axis=0)
    passed = np.linalg.norm(fbp(A, wave))
    assert np.linalg.norm(fbp(A, wave, cutoff=0.5)) < 0.02 * passed
    assert np.linalg.norm(fbp(A, wave, cutoff=0.95)) > 0.5 * passed


def test_a_cutoff_squeezes_the_window():
    wide = window_response("hann", 2048)
    narrow = window_response("hann", 2048, cutoff=0.5)
    places = np.arange(1, 512)
    squeezed = wide[2 * places] / wide[2 * places[-1]] * 1.0
    ramp = window_response("ram-lak", 2048)
    np.testing.assert_allclose(narrow[places] / ramp[places], wide[2 * places] / ramp[2 * places])
    assert (narrow[514:] == 0).all()
    assert squeezed.size == 511


@pytest.mark.parametrize("cutoff", [0.3, 1.0])
@pytest.mark.parametrize("name", [*WINDOWS, None])
def test_every_filter_and_cutoff_keeps_dtype_and_channels_apart(A, sinogram, name, cutoff):
    sinogram = sinogram.astype("float32")
    clean = fbp(A, sinogram, filter_name=name, cutoff=cutoff)
    sinogram[3, 20, 1] = np.nan
    volume = fbp(A, sinogram, filter_name=name, cutoff=cutoff)
    assert clean.dtype == volume.dtype == np.float32
    np.testing.assert_array_equal(volume[..., 0], clean[..., 0])
    assert np.isnan(volume[..., 1]).any()


def test_an_operator_with_a_back_projection_of_its_own_is_asked(A, sinogram):
    class Fast(Plain):
        def fbp(self, sinogram, filter_name):
            return sinogram, filter_name

    fast = Fast(A)
    assert fbp(fast, sinogram, filter_name="hann") == (sinogram, "hann")
    expected = fbp(A, sinogram, filter_name="hann", cutoff=0.8)
    np.testing.assert_array_equal(fbp(fast, sinogram, filter_name="hann", cutoff=0.8), expected)


@pytest.mark.parametrize("method", ["fbp", "cgls", "sirt", "tv"])
def test_the_density_does_not_depend_on_the_size_of_pixels(method):
    theta = half_turn(60)
    beam = ParallelGeometry(theta, 40, 19.5, (60, 60), pixel_size=0.5, grid_center=(2.0, -1.0))
    fine = Plain(load_projector("reference", beam))
    radius, u = 12.0, np.arange(40) - 19.5
    chord = 2 * np.sqrt(np.clip(radius**2 - u**2, 0, None))
    sinogram = np.broadcast_to(chord[None, :, None], (60, 40, 1)).copy()
    options = {"cgls": {"iterations": 8}, "sirt": {"iterations": 60}}.get(method, {})
    options |= {"regularization": 0.5} if method == "tv" else {}
    volume = getattr(solvers, method)(fine, sinogram, **options)
    inside = np.hypot(beam.y[:, None], beam.x) <= radius - 2
    assert volume[inside].mean() == pytest.approx(1, abs=0.02)


def test_outside_its_support_a_volume_is_zero(A, sinogram):
    whole = fbp(A, sinogram)
    y, x = np.mgrid[:48, :48] - 23.5
    inside = np.hypot(y, x) <= 24
    volume = fbp(A, sinogram, support="circle")
    np.testing.assert_array_equal(volume, np.where(inside[..., None], whole, 0))
    assert (volume[0, 0] == 0).all()
    assert (whole[0, 0] != 0).all()


def test_the_circle_is_all_that_the_beam_reaches():
    beside = ParallelGeometry(half_turn(8), 30, 5.0, (61, 61))
    volume = fbp(Plain(type(operator())(beside)), np.ones((8, 30, 1)), support="circle")
    y, x = np.mgrid[:61, :61] - 30
    assert (volume[np.hypot(y, x) > 24.5] == 0).all()
    assert volume[30, 30 + 20] != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter_name": "hanning"}, "filter_name='hanning' is not known"),
        ({"filter_name": "hanning", "cutoff": 0.5}, "Did you mean 'hann'"),
        ({"cutoff": 0.0}, "cutoff=0 must be more than 0"),
        ({"cutoff": 1.5}, "cutoff=1.5 must be more than 0 and at most 1"),
        ({"filter_name": lambda f: f[:-1]}, "one value for each frequency"),
        ({"filter_name": lambda f: f / 0 if f.size == 0 else np.full_like(f, np.nan)}, "finite"),
        ({"filter_name": np.ones((2, 2))}, "in a row"),
    ],
)
def test_bad_filters_are_refused(A, sinogram, options, message):
    with pytest.raises(OptionError, match=message):
        fbp(A, sinogram, **options)
