"""Measured scans through the same road as simulated ones; each skips where its file is absent.

That images lie, count and scale as they should is held against others' images: those that the
authors of the gel phantom made of denser fan-beam scans, and scikit-image's of the other two.
"""

import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
from scipy import ndimage

import ndtomo_dask as nd
from ndtomo_dask.io.store import FOUND_GROUP
from ndtomo_dask.recipes.recipe import read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from ndtomo_dask.report import write_report
from tests.laws import relative_error
from tests.tolerances import CENTER_REAL

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
DRIFT = 1.0
"""Translation steps between the axis as seen by the whole catalyst scan and by its pairs of
projections near 0° and 180°: the stage drifts; measured 0.85."""
BULK = 0.05
"""Relative, for the attenuation of the gel, known as about 0.038 per mm: measured +1.8 %."""
SPLIT_LINE = 0.3e-3
"""keV, for the upper half of the iron L3 line, 709.67 eV: it is two lines, whose shares vary."""


LIKE_REFERENCE = {0: 0.92, 16: 0.91}
"""Correlation of the inserts with the authors' images, by frame: measured 0.936 and 0.927."""
LIKE_PEER = 0.995
"""Correlation with scikit-image's FBP of the same sinogram: measured 0.998 of both scans."""
VOXEL = 0.4 * 100 / 300
"""Edge of a pixel of the authors' images, mm: one of the detector's, seen at the axis."""


def turned(image):
    """All other ways in which an image may lie."""
    flipped = [np.rot90(image.T, turns) for turns in range(4)]
    return [np.rot90(image, turns) for turns in (1, 2, 3)] + flipped


def details(image):
    """An image without what is wider than 10 pixels or finer than 1.5."""
    smooth = ndimage.gaussian_filter(image, 1.5)
    return smooth - ndimage.gaussian_filter(smooth, 10)


def correlation(one, other, inside):
    return float(np.corrcoef(one[inside], other[inside])[0, 1])


def distance(shape, center):
    rows, columns = np.indices(shape)
    return np.hypot(rows - center[0], columns - center[1])


def stand(section, where):
    """Median over the part of a section where there is no grain: below it, to the right."""
    rows, columns = np.indices(section.shape)
    return float(np.median(section[where & (rows > 56) & (columns > 50)]))


@pytest.fixture
def catalyst(shared_data):
    """One call with a map, then absorbance: the beam beside the capillary is its own flat."""
    entry = "entry1/stxm_entry"
    ds = nd.open_scan(
        shared_data("i18_catalyst_multimodal.nxs"),
        sinogram=f"{entry}/data/data",
        angle=f"{entry}/data/theta",
        translation=f"{entry}/data/x",
        z=f"{entry}/data/y",
        monitor=f"{entry}/monitor/data",
    )
    return ds.chunk(z=1).pipe(nd.normalize_monitor).pipe(nd.flat_field, width=5)


def near_opposite(ds, width=15):
    folded = np.mod(ds.angle.values, 180)
    return ds.isel(angle=np.minimum(folded, 180 - folded) <= width)


def test_the_catalyst_file_is_understood(catalyst):
    assert dict(catalyst.sinogram.sizes) == {"z": 7, "angle": 52, "translation": 101, "channel": 1}
    step = float(catalyst.translation.diff("translation").mean())
    assert step == pytest.approx(1.98e-3, rel=1e-3)
    assert not (np.diff(catalyst.angle) > 0).all()


def test_the_axis_of_the_catalyst_is_found_though_its_stage_drifts(catalyst):
    """All projections disagree with those near 0° and 180°, by less than one step."""
    pairs = float(nd.find_rotation_center(near_opposite(catalyst)).rotation_center)
    whole = nd.find_rotation_center(catalyst)
    assert abs(pairs - 45.4) <= CENTER_REAL
    assert abs(float(whole.rotation_center) - pairs) <= DRIFT
    assert float(whole.rotation_center_error) > 0.2  # it does not claim more than it knows


def misfit(ds):
    """How far the sinogram is from that of its FBP, relative."""
    again = nd.project(nd.reconstruct(ds))
    return relative_error(again.projected_sinogram, again.sinogram)


def test_aligned_projections_of_the_catalyst_agree_better(catalyst):
    """The stage drifts by up to two steps; measured 12.1 % before and 10.0 % after."""
    ds = catalyst.load()
    plain = ds.pipe(nd.set_rotation_center, nd.find_rotation_center(ds))
    moved = ds.pipe(nd.align_projections, nd.find_projection_shifts(ds))
    aligned = moved.pipe(nd.set_rotation_center, nd.find_rotation_center(moved))
    assert misfit(aligned) < 0.9 * misfit(plain) < 0.15


def test_every_height_shows_one_grain_in_a_capillary(catalyst, tmp_path):
    center = nd.find_rotation_center(near_opposite(catalyst))
    ds = nd.reconstruct(catalyst.pipe(nd.set_rotation_center, center))
    assert ds.volume.chunksizes["z"] == (1,) * 7
    nd.save(ds[["volume", "missing_samples"]], tmp_path / "catalyst.zarr")
    volume = nd.open_scan(tmp_path / "catalyst.zarr").volume.isel(channel=0)

    radius = distance(volume.shape[1:], center=(56, 50))
    for section in volume.compute().values:
        wall = stand(section, (radius > 33) & (radius < 40))
        assert wall > 0.7  # per mm: glass at 17 keV
        assert abs(stand(section, radius < 26)) < 0.25 * wall
        assert abs(stand(section, radius > 46)) < 0.25 * wall
        smooth = ndimage.gaussian_filter(section, 1)
        dense, grains = ndimage.label(smooth > smooth.max() / 2)
        assert grains == 1
        assert section[dense > 0].mean() > 4 * wall
        assert (radius[dense > 0] < 33).all()
    keep_report(tmp_path / "catalyst.zarr")


def test_the_tooth_has_dentine_enamel_and_a_clean_background(shared_data, tmp_path):
    ds = nd.open_scan(shared_data("aps_tooth_ct.h5")).chunk(z=1).pipe(nd.flat_field)
    found = nd.find_rotation_center(ds)
    assert abs(float(found.rotation_center) - 296.0) <= CENTER_REAL
    nd.save(
        ds.pipe(nd.set_rotation_center, found).pipe(nd.reconstruct)[["volume", "missing_samples"]],
        tmp_path / "tooth.zarr",
    )
    volume = nd.open_scan(tmp_path / "tooth.zarr").volume.isel(channel=0).compute()

    radius = distance(volume.shape[1:], center=(320, 320))
    for section in volume.values:
        smooth = ndimage.gaussian_filter(section, 1.5)
        dentine = (smooth > 0.004) & (smooth < 0.0052)
        enamel = smooth > 0.007
        background = section[(radius > 200) & (radius < 280)]
        assert 10_000 < dentine.sum() < enamel.sum() < 30_000
        assert np.median(section[enamel]) / np.median(section[dentine]) == pytest.approx(1.65, 0.05)
        assert abs(np.median(background)) < 0.01 * np.median(section[enamel])
        assert background.std() < 0.1 * np.median(section[enamel])
    keep_report(tmp_path / "tooth.zarr")


def test_the_gel_phantom_runs_from_its_recipe_file(shared_data, tmp_path, client):
    content = yaml.safe_load((EXAMPLES / "gel_phantom.yaml").read_text())
    (tmp_path / "gel.yaml").write_text(
        yaml.safe_dump(content | {"output": str(tmp_path / "gel.zarr")})
    )
    scan = shared_data("gel_phantom_17frames.h5")
    recipe = read_recipe(tmp_path / "gel.yaml").with_paths(input=scan)
    ds = run_recipe(recipe)

    found = nd.open_scan(tmp_path / "gel.zarr" / FOUND_GROUP / "00_find_rotation_center")
    assert abs(float(found.rotation_center) - 140.5) <= CENTER_REAL
    first = ds.volume.isel(channel=0).values
    assert np.median(first[distance(first.shape, (140, 140)) < 60]) == pytest.approx(0.038, BULK)
    assert "tth" not in ds.coords  # seventeen frames have no spectral axis
    assert "energy" not in ds.coords
    check_gel_components(ds.compute(), tmp_path / "gel.zarr" / FOUND_GROUP)
    keep_report(tmp_path / "gel.zarr")


@pytest.fixture
def gel(shared_data):
    path = shared_data("gel_phantom_17frames.h5")
    ds = nd.open_scan(
        path,
        sinogram="parallel/sinogram",
        angle="parallel/angles_deg",
        translation="parallel/translation_mm",
    )
    return ds.isel(channel=[0, 16]).load()


def authors_image(path, name, ds, voxel=VOXEL):
    """One of the authors' images at our pixels: where it lies is known, nothing is fitted."""
    with h5py.File(path) as file:
        image = file[f"reference/{name}"][()]
    places = np.meshgrid(ds.y / voxel + 127.5, ds.x / voxel + 127.5, indexing="ij")
    return ndimage.map_coordinates(image, places, order=1)


@pytest.mark.parametrize(
    ("frame", "name"), [(0, "fbp_pre_scan"), (16, "fbp_post_scan")], ids=["before", "after"]
)
def test_the_gel_is_where_its_authors_saw_it_and_as_dense(gel, shared_data, frame, name):
    path = shared_data("gel_phantom_17frames.h5")
    ds = gel.isel(channel=[0 if frame == 0 else 1])
    found = nd.reconstruct(ds.pipe(nd.set_rotation_center, 140.5))
    ours, theirs = found.volume.values[..., 0], authors_image(path, name, found)
    radius = np.hypot(found.y, found.x).values
    inserts, disc = radius < 12.2, radius < 16.5
    assert np.median(ours[inserts]) == pytest.approx(np.median(theirs[inserts]), rel=0.02)
    assert np.polyfit(theirs[disc], ours[disc], 1)[0] == pytest.approx(1, abs=0.02)

    expected = details(theirs)
    agreement = correlation(details(ours), expected, inserts)
    assert agreement > LIKE_REFERENCE[frame]
    for other in turned(expected):
        assert correlation(details(ours), other, inserts) < agreement - 0.25
    for wrong in (0.95, 1.05):
        scaled = details(authors_image(path, name, found, voxel=wrong * VOXEL))
        assert correlation(details(ours), scaled, inserts) < agreement - 0.08
    off = nd.reconstruct(ds.pipe(nd.set_rotation_center, 143.0)).volume.values[..., 0]
    assert correlation(details(off), expected, inserts) < agreement - 0.08


def by_scikit_image(ds, center, width):
    """Its FBP, whose axis is the sample ``width // 2``: rows are interpolated to that."""
    from skimage.transform import iradon

    step = float(ds.translation.diff("translation").mean()) if "translation" in ds.coords else 1.0
    places = center + np.arange(width) - width // 2
    rows = ds.sinogram.values.squeeze().astype(float)
    moved = np.stack([np.interp(places, np.arange(row.size), row) for row in rows])
    return iradon(moved.T, ds.angle.values, filter_name="ramp") / step


def check_against_scikit_image(ds, center, width):
    """Same place, same density; any other way to lie and an axis elsewhere are much worse."""
    theirs = by_scikit_image(ds, center, width)
    inside = distance(theirs.shape, (width // 2, width // 2)) < 0.47 * width

    def ours(axis):
        volume = nd.reconstruct(ds.pipe(nd.set_rotation_center, axis)).volume.values.squeeze()
        edge = (volume.shape[0] - width) // 2
        return volume[edge : edge + width, edge : edge + width]

    image = ours(center)
    agreement = correlation(image, theirs, inside)
    assert agreement > LIKE_PEER
    assert np.polyfit(theirs[inside], image[inside], 1)[0] == pytest.approx(1, abs=0.02)
    for other in turned(theirs):
        assert correlation(image, other, inside) < agreement - 0.15
    assert correlation(ours(center + 3), theirs, inside) < agreement - 0.05


def test_the_tooth_lies_as_scikit_image_says(shared_data):
    ds = nd.open_scan(shared_data("aps_tooth_ct.h5")).pipe(nd.flat_field)
    check_against_scikit_image(ds.isel(z=[0], translation=slice(593)).load(), 296.0, 593)


def test_the_catalyst_lies_as_scikit_image_says(catalyst):
    check_against_scikit_image(catalyst.isel(z=[3]).load(), 44.5, 89)


def check_gel_components(ds, found):
    """The bulk dominates; the rest is contrast agent, which comes into the inserts with time."""
    principal = nd.open_scan(found / "03_find_components")
    assert float(principal.explained_variance_ratio[0]) > 0.98
    assert (principal.component_spectrum[0] > 0).all() or (
        principal.component_spectrum[0] < 0
    ).all()
    inserts, bulk = ds.volume[85:100, 116:130], ds.volume[120:160, 120:160]
    contrast = inserts.mean(["y", "x"]) / bulk.mean(["y", "x"])
    assert float(contrast[0]) == pytest.approx(1, abs=0.1)
    assert float(contrast[8]) > 1.4
    fitted = ds.component_map.values @ ds.component_spectrum.values
    inside = distance(ds.volume.shape[:2], (140, 140)) < 95
    assert relative_error(fitted[inside], ds.volume.values[inside]) < 0.05
    assert (ds.component_map >= 0).all()


@pytest.fixture
def iron(shared_data):
    """Optical density of the iron map: plain xarray, since the beam was measured elsewhere."""
    path = shared_data("als_stxm_fe_ledge.h5")
    units = {"energy": "eV", "x": "um", "y": "um"}
    ds = nd.open_scan(path, volume="counts", energy="energy_eV", x="x_um", y="y_um", units=units)
    with h5py.File(path) as file:
        beam = np.interp(ds.energy * 1e3, file["i0_energy_eV"][()], file["i0"][()])
    density = -np.log(ds.volume / xr.DataArray(beam.astype("float32"), dims="channel"))
    about = {"units": "1", "long_name": "optical density"}
    return ds.assign(volume=density.assign_attrs(about)).chunk(y=50, channel=-1)


def test_the_iron_edge_peaks_where_it_should(iron):
    assert dict(iron.volume.sizes) == {"y": 150, "x": 150, "channel": 123}
    mean = iron.volume.mean(["y", "x"]).compute()
    assert float(mean.energy.isel(channel=mean.argmax("channel"))) == pytest.approx(
        0.70967, abs=1e-5
    )
    upper = mean.sel(energy=slice(0.716, 0.725))
    assert float(upper.energy.isel(channel=upper.argmax("channel"))) == pytest.approx(
        0.7211, abs=1e-4
    )


def test_the_upper_line_of_iron_is_fitted_in_most_of_the_sample(iron):
    """L3 is split (708.1 and 709.7 eV): one peak is fitted to its upper half, beyond the valley."""
    windows = {"L3 upper": (0.7088, 0.7125)}
    ds = nd.fit_peaks(iron, windows=windows, axis="energy", background=0)
    ds = ds[["volume", "peak_position", "peak_status"]].isel(peak=0).compute()
    before = ds.volume.sel(energy=slice(0.7, 0.705)).mean("channel")
    sample = ds.volume.sel(energy=slice(0.709, 0.7103)).mean("channel") - before > 0.1
    assert 0.2 < float(sample.mean()) < 0.4
    position = ds.peak_position.where(sample)
    assert float(np.isfinite(position).sum() / sample.sum()) > 0.85
    assert float(position.median()) == pytest.approx(0.70967, abs=SPLIT_LINE)
    assert float(np.isfinite(ds.peak_position.where(~sample)).sum() / (~sample).sum()) < 0.1


def test_factors_of_the_iron_map_are_two_states_of_iron_and_a_flat_offset(iron):
    found = nd.find_components(iron, method="nmf", components=3)
    energy = iron.energy.values * 1e3
    spectra = found.component_spectrum.values
    contrast = spectra.max(axis=1) / spectra[:, energy < 705].mean(axis=1)
    peaks = energy[spectra.argmax(axis=1)]
    assert min(contrast) < 1.3
    iron_two, iron_three = sorted(peaks[contrast > 1.5])
    assert iron_two == pytest.approx(708.0, abs=0.5)
    assert iron_three == pytest.approx(709.67, abs=0.5)


def test_the_page_shows_the_recipes_that_were_run():
    page = (EXAMPLES.parent / "explanation" / "real-data.md").read_text()
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    names = re.findall(r"examples/(\w+\.yaml)", page)
    assert len(names) == 3
    assert shown == [yaml.safe_load((EXAMPLES / name).read_text()) for name in names]


def keep_report(store):
    """Write a report, and leave it in $NDTOMO_REPORTS for a person to look at, if that is set."""
    path = store.with_suffix(".html")
    write_report(store, path, title=store.stem)
    assert path.stat().st_size > 20_000
    if "NDTOMO_REPORTS" in os.environ:
        path.rename(Path(os.environ["NDTOMO_REPORTS"]) / path.name)
