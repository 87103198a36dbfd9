"""Laws of every backend and every model; numba's own are in test_projectors.py."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ndtomo_dask as nd
from ndtomo_dask.errors import BackendError, OptionError, SchemaError
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels.projectors import LOADERS, check_backend, load_projector
from ndtomo_dask.kernels.projectors.derived import interlaced, weighted
from ndtomo_dask.kernels.solvers import fbp
from tests.laws import assert_adjoint, relative_error
from tests.tolerances import ADJOINT, BACKEND, PEER, ROUNDING

ANGLES = np.concatenate([np.linspace(-0.4, 5.3, 11), [0, np.pi / 4, np.pi / 2, np.pi, 0.1]])
GEOMETRIES = {
    "even": ParallelGeometry.centered(ANGLES, 16),
    "odd": ParallelGeometry.centered(ANGLES, 13),
    "off center and shifted": ParallelGeometry.centered(
        ANGLES, 18, rotation_center=6.3, shifts=np.random.default_rng(1).normal(0, 2, 16)
    ),
    "region of small pixels": ParallelGeometry.centered(
        ANGLES, 18, size=(9, 14), pixel_size=0.37, grid_center=(2.2, -1.7)
    ),
    "large pixels": ParallelGeometry.centered(ANGLES, 32, size=(7, 5), pixel_size=2.6),
    "beside the detector": ParallelGeometry.centered(ANGLES[:3], 4, size=3, grid_center=(0, 40)),
}
SAMPLED = 3.0
"""Percent: a phantom drawn in pixels against scikit-image's rotations of it."""
OPERATORS = [
    *itertools.product(["reference", "torch"], ["pixel", "joseph", "line", "strip"]),
    *itertools.product(["astra"], ["joseph", "line", "strip"]),
    *itertools.product(["cpu"], ["pixel", "joseph"]),
]
LIBRARY = {"astra": "astra", "torch": "torch"}


def operator(backend, geometry, model):
    if backend in LIBRARY:
        pytest.importorskip(LIBRARY[backend], reason=f"{LIBRARY[backend]} is not installed")
    if (model == "pixel" or backend == "cpu") and geometry.pixel_size > 1:
        pytest.skip("such pixels leave gaps, and are refused")
    return load_projector(backend, geometry, model)


def noise(*shape, dtype="float64", seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(params=GEOMETRIES, ids=lambda name: name.replace(" ", "_"))
def geometry(request):
    return GEOMETRIES[request.param]


@pytest.fixture(params=OPERATORS, ids="-".join)
def backend_and_model(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_back_projection_are_adjoint(backend_and_model, geometry, dtype):
    backend, model = backend_and_model
    assert_adjoint(operator(backend, geometry, model), np.random.default_rng(6), dtype)


@st.composite
def geometries(draw):
    """Any geometry, with angles along the edges and diagonals of pixels among them."""
    angle = st.one_of(st.floats(-7, 7), st.integers(-8, 8).map(lambda n: n * np.pi / 4))
    angles = np.array(draw(st.lists(angle, min_size=1, max_size=5)))
    translations = draw(st.integers(1, 12))
    within = st.floats(-translations, translations)
    return ParallelGeometry(
        angles, translations, draw(st.floats(-0.5, translations - 0.5)),
        (draw(st.integers(1, 7)), draw(st.integers(1, 7))),
        np.array([draw(within) for _ in angles]), draw(st.sampled_from([0.13, 0.5, 1.0, 2.5])),
        (draw(st.floats(-9, 9)), draw(st.floats(-9, 9))),
    )  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(geometry=geometries())
@pytest.mark.parametrize("model", ["pixel", "joseph", "line", "strip"])
def test_any_geometry_is_adjoint_and_the_same_by_all(model, geometry):
    if model == "pixel" and geometry.pixel_size > 1:
        return
    plain = operator("reference", geometry, model)
    compiled = model in ("pixel", "joseph") and geometry.pixel_size <= 1
    others = [operator(name, geometry, model) for name in ["torch", *["cpu"] * compiled]]
    x = noise(*geometry.shape, 2)
    scale = max(np.abs(plain(x)).max(), 1)
    for A in (plain, *others):
        assert_adjoint(A, np.random.default_rng(6), "float64")
        np.testing.assert_allclose(A(x), plain(x), rtol=0, atol=1e-10 * scale)
    if model in ("pixel", "strip"):  # nothing weighs more than it is
        assert plain.matrix.min() >= 0
        per_projection = plain.T(np.ones((geometry.angles.size, geometry.translations, 1)))
        most = geometry.angles.size * geometry.pixel_size**2
        assert per_projection.max() <= most * (1 + 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_agree_with_the_matrix(backend_and_model, geometry, dtype):
    backend, model = backend_and_model
    A, plain = operator(backend, geometry, model), operator("reference", geometry, model)
    x = noise(*geometry.shape, 3, dtype=dtype)
    y = noise(geometry.angles.size, geometry.translations, 3, dtype=dtype)
    bound = ADJOINT[np.dtype(dtype)]
    if backend == "astra":  # its weights have float32's precision, and jump along edges of pixels
        bound = 0.1 if model == "line" else 1e-4
    assert A(x).dtype == A.T(y).dtype == dtype
    assert relative_error(A(x), plain(x.astype(float))) <= bound
    assert relative_error(A.T(y), plain.T(y.astype(float))) <= bound


def test_channels_are_the_same_bits_however_many_there_are(backend_and_model):
    geometry = GEOMETRIES["off center and shifted"]
    A = operator(backend_and_model[0], geometry, backend_and_model[1])
    x = noise(*geometry.shape, 37, dtype="float32")
    y = noise(geometry.angles.size, geometry.translations, 37, dtype="float32")
    for channels in (0, 1, 2, 7, 16, 33):
        np.testing.assert_array_equal(A(x[..., :channels]), A(x)[..., :channels])
        np.testing.assert_array_equal(A.T(y[..., :channels]), A.T(y)[..., :channels])
    np.testing.assert_array_equal(A(x[..., 5]), A(x)[..., 5])
    np.testing.assert_array_equal(A.T(y[..., 5]), A.T(y)[..., 5])


def test_a_bad_or_strong_channel_leaves_the_others_bitwise_unchanged(backend_and_model):
    geometry = GEOMETRIES["even"]
    A = operator(backend_and_model[0], geometry, backend_and_model[1])
    for operate, clean in (
        (A, noise(16, 16, 6, dtype="float32")),
        (A.T, noise(ANGLES.size, 16, 6, dtype="float32")),
    ):
        damaged = clean.copy()
        damaged[5, 6, 1], damaged[6, 7, 3] = np.nan, np.inf
        damaged[..., 4] *= 1e7
        before = damaged.copy()
        np.testing.assert_array_equal(
            operate(damaged)[..., [0, 2, 5]], operate(clean)[..., [0, 2, 5]]
        )
        np.testing.assert_array_equal(damaged, before)
        assert np.isnan(operate(damaged)[..., 1]).any()
        assert not np.isnan(operate(damaged)[..., 1]).all()


def test_a_quarter_turn_of_image_and_scan_is_nothing(backend_and_model):
    backend, model = backend_and_model
    geometry = ParallelGeometry.centered(np.linspace(0.1, 3, 9), 24, size=16, rotation_center=10.2)
    A, turned = (
        operator(backend, geometry, model),
        operator(backend, geometry.turn(np.pi / 2), model),
    )
    image = noise(16, 16, 2)
    assert relative_error(turned(np.rot90(image)), A(image)) <= BACKEND


def test_the_position_of_the_axis_moves_the_sinogram_and_not_the_image(backend_and_model):
    backend, model = backend_and_model
    shifts = np.array([1, -3, 0, 2, 3, -1, 0.0, 1, 2])
    angles = np.linspace(0.1, 3, 9)
    middle = operator(backend, ParallelGeometry.centered(angles, 40, size=16), model)
    moved = operator(
        backend,
        ParallelGeometry.centered(angles, 40, size=16, rotation_center=21.5, shifts=shifts),
        model,
    )
    image = noise(16, 16, 2)
    sinogram = middle(image)
    displaced = np.stack(
        [np.roll(row, 2 + int(s), 0) for row, s in zip(sinogram, shifts, strict=True)]
    )
    assert relative_error(moved(image), displaced) <= BACKEND
    assert relative_error(moved.T(displaced), middle.T(sinogram)) <= BACKEND


def test_a_region_is_cut_from_the_whole_grid(backend_and_model):
    backend, model = backend_and_model
    angles = np.linspace(0.1, 3, 9)
    whole = operator(backend, ParallelGeometry.centered(angles, 24, pixel_size=0.75), model)
    region = operator(
        backend,
        ParallelGeometry.centered(
            angles, 24, size=(10, 6), pixel_size=0.75, grid_center=(-0.75 * 7, 0.75 * 4)
        ),
        model,
    )
    sinogram = noise(9, 24, 2)
    cut = np.s_[4:14, 17:23]  # 32 x 32 pixels; rows 4 to 13 are 7 above the middle
    bound = 1e-4 if backend == "astra" else BACKEND  # its lengths are those of another float32
    assert relative_error(region.T(sinogram), whole.T(sinogram)[cut]) <= bound
    piece, padded = noise(10, 6, 2), np.zeros((32, 32, 2))
    padded[cut] = piece
    assert relative_error(region(piece), whole(padded)) <= bound


@pytest.mark.parametrize(
    "projections",
    [np.array([3, 1, 7]), np.arange(16) % 3 == 0, slice(1, None, 2)],
    ids=["indices", "mask", "slice"],
)
def test_selected_projections_are_those_of_the_whole(backend_and_model, projections):
    geometry = GEOMETRIES["off center and shifted"]
    A = operator(backend_and_model[0], geometry, backend_and_model[1])
    some = A.select(projections)
    x = noise(*geometry.shape, 2)
    assert some.geometry == geometry.select(projections)
    np.testing.assert_allclose(some(x), A(x)[projections], atol=1e-12)
    y = some(x)
    filled = np.zeros_like(A(x))
    filled[projections] = y
    np.testing.assert_allclose(some.T(y), A.T(filled), atol=1e-10)


def test_the_shape_of_a_block_and_its_dtype_are_checked(backend_and_model):
    A = operator(backend_and_model[0], GEOMETRIES["odd"], backend_and_model[1])
    with pytest.raises(SchemaError, match=r"volume of shape \(3, 3, 1\) does not fit .*\(13, 13\)"):
        A(np.zeros((3, 3, 1)))
    with pytest.raises(SchemaError, match=r"sinogram of shape .* begins with \(16, 13\)"):
        A.T(np.zeros((13, 16, 1)))
    with pytest.raises(SchemaError, match=r"volume of int64 .*volume.astype\('float32'\)"):
        A(np.zeros((13, 13, 1), dtype="int64"))


def lopsided(size):
    """An image that no turn or reflection maps onto itself, inside the circle."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    bar = (np.abs(columns - size * 0.1) < size / 20) & (np.abs(rows + size * 0.05) < size * 0.25)
    blob = np.exp(-((columns + size * 0.2) ** 2 + (rows - size * 0.15) ** 2) / (size / 16) ** 2)
    return (bar + blob) * (np.hypot(rows, columns) < size / 2 - 2)


def test_projections_agree_with_scikit_image(backend_and_model):
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is not installed")
    degrees = np.arange(0.0, 360.0, 8.0)
    image = lopsided(65)
    theirs = transform.radon(image, degrees, preserve_range=True).T
    geometry = ParallelGeometry.centered(np.deg2rad(degrees), 65)
    A = operator(backend_and_model[0], geometry, backend_and_model[1])
    assert 100 * relative_error(A(image), theirs) < SAMPLED
    assert 100 * relative_error(A(image[::-1]), theirs) > 10 * SAMPLED
    assert 100 * relative_error(A(image[:, ::-1]), theirs) > 10 * SAMPLED


def test_a_region_of_interest_reconstructs_to_the_crop(backend_and_model):
    backend, model = backend_and_model
    angles = np.linspace(0, np.pi, 40, endpoint=False)
    whole = operator(backend, ParallelGeometry.centered(angles, 48), model)
    region = operator(
        backend, ParallelGeometry.centered(angles, 48, size=(12, 16), grid_center=(-6, 2)), model
    )
    sinogram = operator("reference", whole.geometry, "strip")(lopsided(48)[..., None])
    cut = np.s_[12:24, 18:34]
    assert relative_error(fbp(region, sinogram), fbp(whole, sinogram)[cut]) <= 1e-5


def test_density_does_not_depend_on_the_pixel_size(backend_and_model):
    backend, model = backend_and_model
    angles = np.linspace(0, np.pi, 60, endpoint=False)
    t = np.arange(64) - 31.5
    chord = 2 * np.sqrt(np.clip(20.0**2 - t**2, 0, None))
    sinogram = np.broadcast_to(chord[None, :, None], (60, 64, 1)).copy()
    for pixel_size in (0.5, 1.0, 1.6):
        if (model == "pixel" or backend == "cpu") and pixel_size > 1:
            continue
        geometry = ParallelGeometry.centered(angles, 64, pixel_size=pixel_size)
        y, x = np.meshgrid(geometry.y, geometry.x, indexing="ij")
        volume = fbp(operator(backend, geometry, model), sinogram)
        assert volume[np.hypot(x, y) < 16].mean() == pytest.approx(1, abs=PEER)


@pytest.mark.parametrize("backend", ["astra", "torch"])
@pytest.mark.parametrize("translations", [63, 64, 65])
def test_no_width_is_special(backend, translations):
    angles = np.linspace(0, np.pi, 60, endpoint=False)
    geometry = ParallelGeometry.centered(angles, translations)
    sinogram = operator("reference", geometry, "strip")(lopsided(translations)[..., None])
    expected = fbp(operator("reference", geometry, "joseph"), sinogram)
    found = fbp(operator(backend, geometry, "joseph"), sinogram)
    assert relative_error(found, expected) <= 1e-4


@pytest.mark.parametrize("backend", ["astra", "torch"])
def test_the_verb_takes_the_backend_and_leaves_faults_in_their_channel(backend):
    operator(backend, GEOMETRIES["even"], None)  # skips where the library is absent
    ds = nd.simulate_scan(size=32, angles=40, channels=6).load()
    ds["sinogram"].values[5, 7, 1] = np.nan
    ds["sinogram"].values[..., 3] = np.nan
    for method in ("fbp", "sirt", "cgls"):
        expected = nd.reconstruct(ds, method=method).volume.values
        found = nd.reconstruct(ds, method=method, backend=backend).volume.values
        assert np.isnan(found).any(axis=(0, 1)).tolist() == [n == 3 for n in range(6)]
        # Of FBP samples are interpolated otherwise, of noisy data; CGLS amplifies rounding.
        assert relative_error(found, expected) < {"fbp": 0.25, "sirt": 1e-4, "cgls": 0.01}[method]


def test_interlaced_parts_take_turns():
    A = load_projector("reference", GEOMETRIES["even"])
    x = noise(16, 16, 2)
    parts = interlaced(A, 3)
    for start, part in enumerate(parts):
        np.testing.assert_array_equal(part(x), A(x)[start::3])
    with pytest.raises(OptionError, match=r"parts=17 is not possible with 16 projections"):
        interlaced(A, 17)


@pytest.mark.parametrize("trailing", [(), (3,)])
def test_weighted_rays_are_adjoint_and_a_weight_of_zero_takes_a_ray_out(trailing):
    A = load_projector("reference", GEOMETRIES["even"])
    weights = np.random.default_rng(2).random((16, 16, *trailing))
    weights[4, 5] = 0
    wA = weighted(A, weights)
    assert_adjoint(wA, np.random.default_rng(4), "float64")
    y = noise(16, 16, 3)
    other = y.copy()
    other[4, 5] = 1e6
    np.testing.assert_array_equal(wA.T(y), wA.T(other))
    kept = np.arange(16) != 4
    np.testing.assert_allclose(wA.select(kept)(y), wA(y)[kept])
    with pytest.raises(SchemaError, match=r"weights of shape \(3, 3\) do not fit the sinogram"):
        weighted(A, np.ones((3, 3)))


def test_models_are_told_apart_and_an_unknown_one_is_refused():
    geometry = GEOMETRIES["even"]
    assert load_projector("reference", geometry, "strip").model == "strip"
    assert load_projector("reference", geometry, "line").model == "line"
    assert load_projector("reference", geometry).model == "pixel"
    expected = r"backend='cpu' has no model='strip': pass model='pixel', or backend='reference'"
    with pytest.raises(BackendError, match=expected):
        load_projector("cpu", geometry, "strip")
    with pytest.raises(BackendError, match=r"backend='tprch' .*Did you mean 'torch'"):
        check_backend("tprch")
    for name in LOADERS:
        check_backend(name)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_pixels_that_leave_gaps_are_refused(backend):
    if backend in LIBRARY:
        pytest.importorskip(LIBRARY[backend])
    with pytest.raises(SchemaError, match=r"pixels of 2.6 translation steps leave gaps"):
        load_projector(backend, GEOMETRIES["large pixels"], "pixel")


def test_float32_is_float64_rounded(geometry):
    A = load_projector("reference", geometry, "strip")
    x = noise(*geometry.shape, 2, dtype="float32")
    assert relative_error(A(x), A(x.astype(float))) <= 4 * ROUNDING[np.dtype("float32")]
