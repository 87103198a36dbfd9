import h5py
import numpy as np
import pytest
import xarray as xr

from ndtomo_dask import fit_references, phase_fractions, reconstruct
from ndtomo_dask.errors import OptionError, PlanError, SchemaError
from ndtomo_dask.kernels.components.reference_fit import ReferenceStatus
from ndtomo_dask.schema import record
from tests.laws import assert_chunk_invariant, assert_keeps, assert_lazy, relative_error
from tests.tolerances import PHYSICS, ROUNDING, STATISTICAL

Q = np.linspace(2.0, 4.0, 160)
LINES = {"Ni": (3.09, 3.57), "NiO": (2.6, 3.01, 3.6), "Al2O3": (2.46, 2.63, 3.0, 3.9)}
EXACT = 1e-10


def pattern(name, q=Q, width=0.03):
    return sum(np.exp(-(((q - line) / width) ** 2)) for line in LINES[name])


@pytest.fixture
def patterns():
    axis = ("channel", Q, {"units": "1/angstrom"})
    return xr.Dataset({name: ("channel", pattern(name)) for name in LINES}).assign_coords(q=axis)


@pytest.fixture
def truth(rng):
    amounts = rng.uniform(0, 50, (6, 7, 3)) * (rng.random((6, 7, 3)) < 0.7)
    return xr.DataArray(amounts, dims=("y", "x", "reference"), coords={"reference": list(LINES)})


@pytest.fixture
def volume(truth):
    data = truth.values @ np.array([pattern(name) for name in LINES]) + 5 - Q
    about = {"units": "count/mm", "long_name": "reconstructed intensity"}
    ds = xr.Dataset({"volume": (("y", "x", "channel"), data, about)})
    axis = ("channel", Q, {"units": "1/angstrom"})
    ds = ds.assign_coords(q=axis, y=np.arange(6) * 0.1, wavelength=0.2)
    return record(ds.set_xindex("q"), "test")


def test_fitting_references_is_lazy_and_keeps_labels(volume, patterns):
    made = assert_lazy(lambda ds: fit_references(ds, patterns, background=1), volume.chunk(y=2))
    assert_keeps(volume, made, "fit_references")
    assert made.reference.values.tolist() == list(LINES)
    assert made.reference_amount.dims == ("y", "x", "reference")
    assert made.reference_status.dims == ("y", "x")
    assert made.reference_amount.attrs["units"] == "count/mm"
    assert made.reference_reduced_chi_square.attrs["units"] == "(count/mm)^2"
    assert made.reference_status.dtype == "uint8"
    meanings = made.reference_status.attrs["flag_meanings"].split()
    assert len(meanings) == len(made.reference_status.attrs["flag_values"])
    np.testing.assert_array_equal(made.reference_pattern, patterns.to_dataarray("reference"))


def test_amounts_without_noise_are_recovered(volume, truth, patterns):
    made = fit_references(volume, patterns, background=1)
    np.testing.assert_allclose(made.reference_amount, truth, atol=EXACT * 50)
    assert (made.reference_status == ReferenceStatus.FITTED).all()
    wrong = fit_references(volume, patterns)
    assert relative_error(wrong.reference_amount, truth) > PHYSICS


def test_noisy_amounts_lie_within_their_errors(volume, truth, patterns, rng):
    noisy = volume.copy(deep=True)
    noisy["volume"] += 3 * rng.standard_normal(noisy.volume.shape)
    made = fit_references(noisy, patterns, background=1, nonnegative=False)
    pulls = (made.reference_amount - truth) / made.reference_amount_error
    assert float(abs(pulls).max()) < STATISTICAL
    assert abs(float(pulls.mean())) < STATISTICAL / np.sqrt(pulls.size)
    np.testing.assert_allclose(made.reference_reduced_chi_square.mean(), 9, rtol=0.05)


@pytest.mark.parametrize("options", [{}, {"background": 1, "uniform": True}, {"weighted": True}])
def test_amounts_do_not_depend_on_the_chunks(volume, patterns, options):
    volume = xr.concat([volume, 2 * volume], "z").assign_attrs(volume.attrs)
    volume["volume_variance"] = volume.volume + 3
    volume["volume"] = volume.volume.astype("float32")
    volume.volume[0, 1, 2, 30] = np.nan
    assert_chunk_invariant(
        lambda ds: fit_references(ds, patterns, **options),
        volume,
        [{}, {"y": 1}, {"y": 4, "x": 3, "z": 1}],
    )


def test_patterns_on_another_grid_are_interpolated(volume, truth, patterns):
    fine = np.linspace(4.2, 1.5, 3000)
    table = np.array([pattern(name, fine) for name in LINES])
    names = {"phase": list(LINES), "q": fine}
    made = fit_references(
        volume, xr.DataArray(table, dims=("phase", "q"), coords=names), background=1
    )
    assert made.reference.values.tolist() == list(LINES)
    assert relative_error(made.reference_amount, truth) < 1e-3
    one = fit_references(volume, xr.DataArray(table[0], dims="q", coords={"q": fine}, name="Ni"))
    assert one.reference.values.tolist() == ["Ni"]


def test_a_bad_sample_has_no_weight_in_its_pixel_and_touches_no_other(volume, truth, patterns):
    expected = fit_references(volume, patterns, background=1)
    bad = volume.copy(deep=True)
    bad.volume[1, 2, 40:60], bad.volume[3, 3] = np.nan, np.nan
    made = fit_references(bad, patterns, background=1)
    np.testing.assert_allclose(made.reference_amount[1, 2], truth[1, 2], atol=EXACT * 50)
    assert made.reference_status[3, 3] == ReferenceStatus.BAD_INPUT
    assert np.isnan(made.reference_amount[3, 3]).all()
    others = np.ones((6, 7), bool)
    others[[1, 3], [2, 3]] = False
    for name in ("reference_amount", "reference_amount_error", "reference_status"):
        np.testing.assert_array_equal(made[name].values[others], expected[name].values[others])


def test_amounts_of_a_sinogram_add_along_its_rays(clean_scan):
    """Fitted before or after it is reconstructed, a phase is the same: both are linear."""
    spectra = reconstruct(clean_scan).volume.values.reshape(-1, 60)
    chosen = spectra[np.argsort(spectra.sum(axis=1))[[400, 900, 1000]]]
    known = xr.DataArray(chosen, dims=("reference", "channel"), coords={"reference": [*"abc"]})
    by_ray = fit_references(clean_scan, known, variable="sinogram", nonnegative=False)
    assert by_ray.reference_amount.dims == ("angle", "translation", "reference")
    sinogram = by_ray.reference_amount.rename(reference="channel").drop_vars(
        ["channel", "tth"], errors="ignore"
    )
    maps = reconstruct(xr.Dataset({"sinogram": sinogram})).volume
    expected = fit_references(reconstruct(clean_scan), known, nonnegative=False).reference_amount
    assert relative_error(maps, expected) < 100 * ROUNDING[np.dtype("float32")]


def test_masked_channels_of_a_sinogram_have_no_weight(clean_scan):
    known = clean_scan.sinogram.isel(translation=16, angle=[0, 10, 20]).rename(angle="reference")
    known = known.drop_vars([name for name in known.coords if name != "tth"])
    options = {"variable": "sinogram", "nonnegative": False}
    mask = xr.DataArray(np.arange(60) == 30, dims="channel")
    spoiled = clean_scan.copy(deep=True).assign(mask=mask)
    spoiled.sinogram[..., 30] = 1e6
    made = fit_references(spoiled, known, **options).reference_amount
    clean = fit_references(clean_scan.assign(mask=mask), known, **options).reference_amount
    np.testing.assert_array_equal(made, clean)


def test_a_single_spectrum_is_fitted(volume, patterns):
    one = xr.Dataset({"spectrum": volume.volume[2, 3]})
    made = fit_references(one, patterns, variable="spectrum")
    expected = fit_references(volume, patterns).reference_amount[2, 3]
    np.testing.assert_array_equal(made.reference_amount, expected)


def test_fractions_sum_to_one_with_errors_of_monte_carlo(volume, patterns, rng):
    made = phase_fractions(fit_references(volume.chunk(y=2), patterns, background=1), {"Ni": 0.5})
    assert made.reference_fraction.chunks is not None
    amount = made.reference_amount * [0.5, 1, 1]
    total = amount.sum("reference").compute()
    expected = amount / total.where(total > 0)
    np.testing.assert_allclose(made.reference_fraction, expected, atol=EXACT)
    sums = made.reference_fraction.sum("reference", skipna=False)
    np.testing.assert_allclose(sums.where(total > 0, 1), 1, atol=EXACT)

    amounts, errors = np.array([20.0, 30.0, 10.0]), np.array([0.3, 0.5, 0.2])
    drawn = amounts + errors * rng.standard_normal((20000, 3))
    spread = (drawn / drawn.sum(axis=1, keepdims=True)).std(axis=0)
    names = {"reference": list(LINES)}
    ds = xr.Dataset({"reference_amount": ("reference", amounts),
                     "reference_amount_error": ("reference", errors)}, coords=names)  # fmt: skip
    found = phase_fractions(ds).reference_fraction_error
    np.testing.assert_allclose(found, spread, rtol=0.05)


def test_an_empty_pixel_has_no_fractions(volume, patterns):
    volume = volume.copy(deep=True)
    volume.volume[0, 0] = 0
    made = phase_fractions(fit_references(volume, patterns))
    assert np.isnan(made.reference_fraction[0, 0]).all()
    assert np.isfinite(made.reference_fraction[1:]).all()


def test_bad_patterns_are_refused_in_words(volume, patterns, no_compute):
    lazy = volume.chunk(y=3)
    renamed = patterns.rename(q="d")
    short = patterns.isel(channel=slice(10, 150))
    cases = [
        ({"patterns": patterns.assign(zero=0 * patterns.Ni)}, "pattern 'zero' is zero in every"),
        ({"patterns": patterns.assign(sum=patterns.Ni + patterns.NiO)},
         "reference 'sum' is a sum of the references before it"),
        ({"patterns": patterns.where(patterns.q > 2.1)}, "pattern 'Ni' has a value that is"),
        ({"patterns": short}, r"patterns cover q from 2.12.* to 3.87.*ds.sel\(q=slice"),
        ({"patterns": renamed}, "patterns lie on d, but the data on q"),
        ({"patterns": short.drop_vars("q")}, "patterns have 140 channels and no axis of the data"),
        ({"patterns": patterns, "axis": "energy"}, "cannot be compared on energy"),
        ({"patterns": patterns.to_dataarray("reference").assign_coords(reference=["a", "a", "b"])},
         "must have different names"),
        ({"patterns": patterns.to_dataarray("a").expand_dims("b")}, "must be an array"),
        ({"patterns": xr.Dataset()}, "a spectrum in each variable"),
        ({"patterns": patterns, "weighted": True}, "needs 'volume_variance'"),
        ({"patterns": patterns, "variable": "volum"}, "Did you mean 'volume'"),
    ]  # fmt: skip
    for options, message in cases:
        with pytest.raises(SchemaError, match=message):
            fit_references(lazy, **options)
    with pytest.raises(OptionError, match="background=-1 is not a degree from 0 to 10, or None"):
        fit_references(lazy, patterns, background=-1)
    with pytest.raises(SchemaError, match="whole spectra"):
        fit_references(volume.chunk(channel=20), patterns)
    few = patterns[["Ni", "NiO"]].isel(channel=[48, 80])
    with pytest.raises(SchemaError, match="2 unknowns, but spectra of 2 channels"):
        fit_references(volume.isel(channel=[48, 80]), few)
    with pytest.raises(PlanError, match="fit_references would hold"):
        fit_references(lazy, patterns, allowed_mem="1MB")
    with pytest.raises(OptionError, match=r"factors has 'Nio'. Did you mean 'Ni'"):
        phase_fractions(fit_references(lazy, patterns), {"Nio": 2.0})
    with pytest.raises(SchemaError, match="phase_fractions needs 'reference_amount'"):
        phase_fractions(volume)


EMISSION = {
    "Si": (1.5, 2.05, [(1.740, 1), (1.836, 0.03)]),
    "Ca": (3.4, 4.25, [(3.691, 1), (4.0127, 0.13)]),
    "Fe": (6.1, 7.35, [(6.404, 1), (7.058, 0.135)]),
    "Cu": (7.7, 9.2, [(8.041, 1), (8.905, 0.135)]),
}
"""First and last energy, and K lines with their strengths, in keV."""


def lines_of(element, energy):
    """Kα and Kβ as wide as the detector makes them: 110 eV of noise, and its Fano factor."""
    parts = []
    for line, strength in EMISSION[element][2]:
        width = np.sqrt((0.11 / 2.355) ** 2 + 3.58e-3 * 0.115 * line)
        parts.append(strength * np.exp(-(((energy - line) / width) ** 2) / 2) / width)
    return xr.DataArray(sum(parts), dims="channel", name=element)


def test_lines_of_a_measured_standard_are_those_of_its_own_program(shared_data):
    """A thin film, uniform: MAPS' rates scatter by 3 %; it corrects for more than we do."""
    with h5py.File(shared_data("aps_2ide_xrf_standard.h5")) as file:
        counts = file["MAPS/mca_arr"][:].astype(float).transpose(1, 2, 0)
        energy = file["MAPS/energy"][: counts.shape[2]]
        names = [name.decode() for name in file["MAPS/channel_names"][:]]
        rates = {element: file["MAPS/XRF_fits"][names.index(element)] for element in EMISSION}
    ratios = {}
    for element, (low, high, _) in EMISSION.items():
        inside = (energy >= low) & (energy <= high)
        axis = {"energy": ("channel", energy[inside])}
        ds = xr.Dataset({"volume": (("y", "x", "channel"), counts[..., inside])}, axis)
        known = lines_of(element, energy[inside]).assign_coords(axis)
        ours = fit_references(ds, known, background=1).reference_amount.values[..., 0]
        ratios[element] = ours / rates[element]
        assert np.corrcoef(ours.ravel(), rates[element].ravel())[0, 1] > 0.25
        assert ratios[element].std() / ratios[element].mean() < 0.05
    for element in ("Ca", "Fe", "Cu"):
        assert abs(ratios[element].mean() / ratios["Si"].mean() - 1) < 0.15


def test_workers_find_the_same_bits(volume, patterns, client):
    expected = fit_references(volume, patterns, background=1)
    made = fit_references(volume.chunk(y=1), patterns, background=1).compute()
    for name in ("reference_amount", "reference_amount_error", "reference_status"):
        np.testing.assert_array_equal(made[name], expected[name])
