import numpy as np
import pytest

from ndtomo_dask.errors import OptionError, SchemaError
from ndtomo_dask.kernels.corrections.sinogram import (
    absorbance,
    air_mean,
    air_model,
    air_partial,
    divide_projections,
    flat_from_edges,
    monitor_scale,
    projection_scale,
    projection_sums,
    projection_totals,
    subtract_air,
)
from tests.tolerances import EPS, ROUNDING

SINGLE = ROUNDING[np.dtype("float32")]
DOUBLE = ROUNDING[np.dtype("float64")]
BEAM = 1 - 0.75 * (np.arange(24) % 10) / 10
SPECTRUM = np.array([3.0, 20.0, 7.0, 1.0])


@pytest.fixture
def sample(rng):
    """A sinogram with empty edges whose projections all have one sum, as parallel beams do."""
    block = np.zeros((24, 15, 4))
    block[:, 4:11] = rng.uniform(1, 2, (24, 7, 4))
    return block / block.sum(axis=(1, 2), keepdims=True) * 1000


def without_air(block, **options):
    edges = {key: options[key] for key in ("width", "side") if key in options}
    mean = air_mean(*air_partial(block, **edges))
    return subtract_air(block, air_model(mean, method=options.get("method", "separable")))


@pytest.mark.parametrize("method", ["separable", "channel", "projection"])
@pytest.mark.parametrize("side", ["both", "first", "last"])
def test_a_constant_background_is_removed(sample, method, side):
    clean = without_air(sample + 20, width=2, method=method, side=side)
    np.testing.assert_allclose(clean, sample, atol=1000 * EPS[np.dtype("float64")])


def test_air_follows_a_decaying_beam_where_one_number_per_channel_cannot(sample):
    dirty = sample + np.outer(BEAM, SPECTRUM)[:, None, :]
    np.testing.assert_allclose(without_air(dirty, width=2), sample, atol=1e-11)
    assert np.abs(without_air(dirty, width=2, method="channel") - sample).max() > 1


def test_separable_air_is_less_noisy_than_each_projection_by_itself(rng):
    truth = np.outer(BEAM, SPECTRUM)
    noisy = truth + rng.normal(0, 0.5, truth.shape)
    miss = {
        method: np.std(air_model(noisy, method=method) - truth)
        for method in ("separable", "projection")
    }
    assert miss["separable"] < 0.8 * miss["projection"]


def test_removing_air_twice_does_not_blow_up(rng):
    around_zero = rng.normal(0, 1, (24, 30))
    around_zero -= around_zero.mean()
    assert np.abs(air_model(around_zero)).max() < np.abs(around_zero).max()


def test_one_nan_spoils_only_itself(sample):
    dirty = sample + np.outer(BEAM, SPECTRUM)[:, None, :]
    dirty[5, 0, 1] = np.nan
    dirty[6, :2, 2] = np.inf
    dirty[6, -2:, 2] = np.nan
    clean = without_air(dirty, width=2)
    bad = ~np.isfinite(dirty)
    assert not np.isfinite(clean[bad]).any()
    np.testing.assert_allclose(clean[~bad], sample[~bad], atol=1e-7)


def test_a_channel_without_edges_is_nan_and_the_others_are_kept():
    table = np.outer(BEAM, SPECTRUM)
    table[:, 2] = np.nan
    model = air_model(table)
    assert np.isnan(model[:, 2]).all()
    np.testing.assert_allclose(model[:, [0, 1, 3]], table[:, [0, 1, 3]], rtol=1e-7)


def test_air_wants_a_width_that_the_scan_has(sample):
    with pytest.raises(OptionError, match=r"width=8 edge .* from 15 .* width from 1 to 7"):
        air_partial(sample, width=8)
    with pytest.raises(OptionError, match="width=0"):
        air_partial(sample, width=0, side="first")
    with pytest.raises(OptionError, match="side='left' is not known"):
        air_partial(sample, side="left")
    with pytest.raises(OptionError, match="Did you mean 'separable'"):
        air_model(np.ones((2, 2)), method="seperable")


def test_a_decaying_beam_with_top_ups_is_normalized(sample):
    measured = sample * BEAM[:, None, None]
    totals = projection_totals(projection_sums(measured))
    clean = divide_projections(measured, projection_scale(totals))
    np.testing.assert_allclose(clean, sample * BEAM.max(), rtol=DOUBLE)


@pytest.mark.parametrize("reference", ["max", "mean", "median"])
def test_dead_projections_have_no_scale_and_no_part_in_the_reference(reference):
    scale = projection_scale(np.array([0.0, 2, 4, np.nan, 9, -5]), reference=reference)
    alive = {"max": 9, "mean": 5, "median": 4}[reference]
    np.testing.assert_allclose(scale * alive, [np.nan, 2, 4, np.nan, 9, np.nan])


def test_blocks_of_angles_and_of_channels_combine(sample):
    sample[3, 5, 1] = np.nan
    sums, counts = air_partial(sample, width=3)
    parts = [air_partial(part, width=3) for part in np.split(sample, [5, 17])]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), sums)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), counts)

    sums = projection_sums(sample)
    for axis, cuts in ((0, [5, 17]), (2, [1, 3])):
        parts = [projection_sums(part) for part in np.split(sample, cuts, axis=axis)]
        together = np.concatenate(parts, axis=min(axis, 1))
        np.testing.assert_allclose(together, sums, rtol=DOUBLE)


def test_a_bad_sample_does_not_rescale_the_other_channels(sample):
    clean = np.delete(sample, 1, axis=2)
    expected = projection_scale(projection_totals(projection_sums(clean)))
    for bad in (np.nan, np.inf):
        sample[3, 5, 1] = bad
        scale = projection_scale(projection_totals(projection_sums(sample)))
        np.testing.assert_allclose(scale, expected, rtol=DOUBLE)


def test_monitor_divides_each_point(sample):
    monitor = np.broadcast_to(BEAM[:, None] * 1e5, sample.shape[:2]).copy()
    measured = sample * BEAM[:, None, None]
    monitor[2, 3] = 0
    monitor[2, 4] = -1
    scale = monitor_scale(monitor)
    clean = divide_projections(measured, scale)
    assert np.isnan(clean[2, 3:5]).all()
    monitored = np.isfinite(scale)
    np.testing.assert_allclose(clean[monitored], sample[monitored] * BEAM.max(), rtol=DOUBLE)


def test_scales_that_cannot_be_are_refused(sample):
    with pytest.raises(SchemaError, match="no projection has a positive total"):
        projection_scale(np.zeros(4))
    with pytest.raises(SchemaError, match="monitor has no positive value"):
        monitor_scale(np.zeros(4))
    with pytest.raises(SchemaError, match=r"scale of shape \(15,\) does not fit"):
        divide_projections(sample, np.ones(15))


def test_absorbance_inverts_the_beer_lambert_law(rng):
    mu = rng.uniform(0, 3, (6, 8, 3))
    dark, flat = rng.uniform(5, 6, (8, 3)), rng.uniform(900, 1000, (8, 3))
    measured = dark + (flat - dark) * np.exp(-mu)
    np.testing.assert_allclose(absorbance(measured, flat, dark), mu, atol=1e-12)
    measured[0, 0, 0] = 0
    measured[0, 1, 0] = np.nan
    flat[2, 1] = 1
    nowhere = np.isnan(absorbance(measured, flat, dark))
    assert nowhere.sum() == 2 + 6
    assert nowhere[0, :2, 0].all()
    assert nowhere[:, 2, 1].all()


def test_edges_give_the_flat_of_each_projection(rng):
    mu = np.zeros((24, 9, 4))
    mu[:, 3:6] = rng.uniform(0, 2, (24, 3, 4))
    measured = np.outer(BEAM, SPECTRUM)[:, None, :] * np.exp(-mu)
    np.testing.assert_allclose(
        absorbance(measured, flat_from_edges(measured, width=2)), mu, atol=1e-12
    )


STEPS = [
    lambda block: subtract_air(block, np.ones((24, 4))),
    lambda block: divide_projections(block, BEAM),
    lambda block: absorbance(block, np.full((15, 4), 500.0)),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint16"])
def test_the_dtype_is_kept_integers_become_float32_and_inputs_are_left_alone(sample, step, dtype):
    block = (sample + 1).astype(dtype)
    before = block.copy()
    block.flags.writeable = False
    result = step(block)
    assert result.dtype == (dtype if dtype.startswith("float") else "float32")
    np.testing.assert_array_equal(block, before)
    truth = step(block.astype("float64"))
    np.testing.assert_allclose(result, truth, rtol=SINGLE, atol=SINGLE)
    assert not np.shares_memory(result, block)


def test_sums_of_single_precision_are_taken_in_double():
    block = np.full((1, 1000, 50), 0.1, dtype=np.float32)
    total = projection_totals(projection_sums(block))
    assert total[0] == pytest.approx(float(np.float32(0.1)) * 50000, rel=1e-13)
