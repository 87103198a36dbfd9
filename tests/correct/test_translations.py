"""Gains of translations: found with the image, divided out, and nothing else is touched."""

import dask
import numpy as np
import pytest
import xarray as xr

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from ndtomo_dask.recipes.recipe import make_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error

INSIDE = slice(6, -6)
"""Translations whose rays pass the powder; those beyond pass the wall of the capillary alone."""
LEFT = 0.2
"""Share of the gains' spread that is left, inside: measured 0.07 and 0.11."""
SAME = 1e-3
"""What a factor in the data may change of gains, which are about 1: single precision."""
FEW = {"passes": 2}


@pytest.fixture(scope="module")
def striped():
    made = nd.simulate_scan(
        size=40, angles=60, channels=40, grains=25, counts=1e5, stripes=0.05, air=0.0, decay=1.0,
        center_offset=0.0, jitter=0.0, seed=1,
    )  # fmt: skip
    return made.load()


def spread(gain):
    relative = np.asarray(gain)[..., INSIDE]
    return float(np.std(relative / relative.mean()))


@pytest.mark.parametrize("drift", [True, False])
def test_gains_are_found(drift, striped):
    truth = striped.true_stripe_gain
    if not drift:
        still = truth.mean("angle") * xr.ones_like(truth)
        striped = striped.assign(sinogram=striped.sinogram * (still / truth).astype("float32"))
        truth = still
    found = nd.find_translation_scale(striped, drift=drift).translation_scale
    assert found.dims == ("angle", "translation")
    assert spread(truth) > 0.03
    assert spread(found / truth) < LEFT * spread(truth)
    assert drift or np.ptp(found.values, axis=0).max() == 0.0


def test_images_lose_their_rings(striped):
    def error(ds):
        return relative_error(nd.reconstruct(ds).volume, true_image)

    truth = striped.true_stripe_gain.rename("translation_scale").to_dataset()
    true_image = nd.reconstruct(nd.normalize_translations(striped, truth)).volume
    mended = nd.normalize_translations(striped, nd.find_translation_scale(striped))
    assert error(mended) < 0.25 * error(striped)  # measured 0.13


def test_gains_do_not_depend_on_the_unit(striped):
    expected = nd.find_translation_scale(striped, **FEW).translation_scale
    dim = striped.assign(sinogram=striped.sinogram * np.float32(3e-7))
    found = nd.find_translation_scale(dim, **FEW).translation_scale
    np.testing.assert_allclose(found, expected, atol=SAME)


def test_gains_and_what_they_mend_are_the_same_whatever_the_chunks(striped):
    expected = nd.find_translation_scale(striped, **FEW)
    assert len(expected.attrs["history"].splitlines()) == 1
    for chunks in ({"angle": 13}, {"channel": 7}, {"angle": 20, "channel": 9}):
        found = nd.find_translation_scale(striped.chunk(chunks), **FEW)
        assert found.translation_scale.chunks is None
        np.testing.assert_array_equal(found.translation_scale, expected.translation_scale)
    chunkings = [{"angle": 13}, {"angle": 20, "channel": 9, "translation": 11}]
    assert_chunk_invariant(lambda ds: nd.normalize_translations(ds, expected), striped, chunkings)


def test_each_slice_has_gains_of_its_own(striped):
    other = striped.sinogram.isel(translation=slice(None, None, -1)).values
    both = xr.concat([striped.sinogram, striped.sinogram.copy(data=other)], "z")
    stack = striped[[]].assign(sinogram=both)
    found = nd.find_translation_scale(stack.chunk(z=1, channel=15), **FEW)
    assert found.translation_scale.dims == ("z", "angle", "translation")
    mended = nd.normalize_translations(stack.chunk(z=1, angle=20), found)
    for z in range(2):
        one = stack.isel(z=z)
        alone = nd.find_translation_scale(one, **FEW)
        np.testing.assert_array_equal(found.isel(z=z).translation_scale, alone.translation_scale)
        np.testing.assert_array_equal(
            mended.sinogram.isel(z=z), nd.normalize_translations(one, alone).sinogram
        )


@pytest.mark.parametrize("kind", ["nan", "masked ray", "masked channels", "dead projection"])
def test_what_is_missing_tells_nothing(kind, striped):
    reference = nd.find_translation_scale(striped, **FEW).translation_scale
    bad = striped.copy(deep=True)
    bad.sinogram[10, 15:18, 2] = np.nan if kind == "nan" else 1e6
    if kind == "masked ray":
        mask = xr.zeros_like(bad.sinogram.isel(channel=0), dtype=bool)
        mask[10, 15:18] = True
        bad = bad.assign(mask=mask)
    if kind == "masked channels":
        bad.sinogram[..., 2] = 1e6
        bad = nd.mask_channels(bad, channels=[2])
    if kind == "dead projection":
        bad.sinogram[10] = np.nan
    found = nd.find_translation_scale(bad, **FEW).translation_scale
    assert np.isfinite(found).all()
    assert abs(found - reference)[:, INSIDE].max() < 0.02
    mended = nd.normalize_translations(bad, found.to_dataset()).sinogram
    np.testing.assert_array_equal(np.isnan(mended), np.isnan(bad.sinogram))


def test_division_is_lazy_and_leaves_the_rest_alone(striped):
    scale = striped.true_stripe_gain.rename("translation_scale").to_dataset()
    noisy = striped.assign(sinogram_variance=striped.sinogram.assign_attrs(units="count^2"))
    before = noisy.copy(deep=True)
    made = assert_lazy(lambda ds: nd.normalize_translations(ds, scale), noisy.chunk(angle=25))
    xr.testing.assert_identical(noisy, before)
    assert_keeps(striped, made.drop_vars("sinogram_variance"), "normalize_translations")
    assert made.sinogram.dtype == striped.sinogram.dtype
    gain = scale.translation_scale.values[..., None]
    np.testing.assert_allclose(made.sinogram, striped.sinogram / gain, rtol=1e-6)
    np.testing.assert_allclose(made.sinogram_variance, striped.sinogram / gain**2, rtol=1e-6)


def test_a_standard_gives_gains_without_angles(striped):
    gain = xr.Dataset({"translation_scale": ("translation", np.linspace(0.9, 1.1, 40))})
    made = nd.normalize_translations(striped, gain).sinogram
    expected = striped.sinogram / gain.translation_scale.values[:, None]
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_a_recipe_finds_and_divides(striped, tmp_path):
    nd.save(striped[["sinogram"]].chunk(angle=30), tmp_path / "scan.zarr")
    content = {
        "input": str(tmp_path / "scan.zarr"),
        "output": str(tmp_path / "out.zarr"),
        "steps": [{"find_translation_scale": FEW}, "normalize_translations", "reconstruct"],
        "save": ["volume"],
    }
    made = run_recipe(make_recipe(content))
    scale = nd.find_translation_scale(striped, **FEW)
    typed = nd.reconstruct(nd.normalize_translations(striped, scale))
    np.testing.assert_array_equal(made.volume, typed.volume)


def test_what_cannot_be_is_refused(striped):
    for wrong in ({"strength": 0.0}, {"groups": 0}, {"passes": 0}):
        with pytest.raises(OptionError, match=r"find_translation_scale takes .*it must be"):
            nd.find_translation_scale(striped, **wrong)
    with pytest.raises(SchemaError, match="no channel is positive and finite"):
        nd.find_translation_scale(striped.assign(sinogram=striped.sinogram * 0))
    with pytest.raises(SchemaError, match=r"needs projection angles"):
        nd.find_translation_scale(striped.drop_vars("angle"))
    with pytest.raises(SchemaError, match="Find it in the same scan"):
        nd.normalize_translations(striped, nd.find_translation_scale(striped, **FEW).isel(
            translation=slice(9)))  # fmt: skip
    with (
        dask.config.set({"ndtomo_dask.allowed_mem": "500 kB"}),
        pytest.raises(PlanError, match="Pass fewer groups"),
    ):
        nd.find_translation_scale(striped.chunk(angle=2))
