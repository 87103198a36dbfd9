"""Tables built strip by strip are those of pyFAI; threads do not change what is clipped."""

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ndtomo_dask.errors import OptionError
from ndtomo_dask.kernels import lookup_table
from ndtomo_dask.kernels.instrument import UNITS, Instrument, geometry_of, geometry_unit, packed
from ndtomo_dask.kernels.integration import Average, Table

SHAPE = (61, 83)
MASK = np.zeros(SHAPE, dtype=bool)
MASK[:14] = MASK[40, 20:30] = True
STRIP = 500
"""Six rows: the last strip is shorter, and the first two are masked."""


def _calibration(detector, config):
    return tuple({
        "poni_version": "2", "detector": detector, "detector_config": config,
        "distance": "0.3", "poni1": "0.0121", "poni2": "0.0153", "rot1": "0.02", "rot2": "0.01",
        "rot3": "0.3", "wavelength": "2.0e-11",
    }.items())  # fmt: skip


def _instrument(orientation=3, **changes):
    config = '{"pixel1": 5e-4, "pixel2": 4e-4, "max_shape": [61, 83], "orientation": %d}'
    calibration = _calibration("Detector", config % orientation)
    return replace(Instrument(calibration, SHAPE, 57, "q", mask=packed(MASK)), **changes)


IMXPAD = Instrument(_calibration("Imxpad S10", "{}"), (120, 80), 57, "q", splitting="full")
"""A detector whose pixels are wider where its modules meet."""
XPAD = Instrument(_calibration("Xpad S540 flat", "{}"), (960, 560), 57, "q", splitting="no")
"""A detector whose modules leave gaps."""


@pytest.mark.parametrize(
    "instrument",
    [
        _instrument(),
        _instrument(splitting="no", polarization=0.95),
        _instrument(splitting="full", unit="tth"),
        _instrument(limits=(1.0, 4.0), mask=b"", solid_angle=False),
        *(_instrument(orientation, polarization=0.9) for orientation in (1, 2, 4)),
        IMXPAD,
        XPAD,
    ],
)
def test_a_table_of_strips_is_that_of_the_whole_detector(monkeypatch, instrument):
    monkeypatch.setattr(lookup_table, "STRIP_PIXELS", STRIP)
    made = lookup_table.build_table(instrument)
    rows, columns = instrument.shape
    assert made.strip == columns * (rows if instrument is XPAD else STRIP // columns)

    geometry, unit = geometry_of(instrument.calibration), UNITS[instrument.unit]
    mask = instrument.masked()
    if geometry.detector.mask is not None:
        mask |= geometry.detector.mask != 0
    peer = geometry.setup_sparse_integrator(
        mask.shape, 57, mask=mask.astype(np.int8), mask_checksum=0, unit=unit,
        split=instrument.splitting, algo="CSR", pos0_range=instrument.limits, empty=np.nan,
    )  # fmt: skip
    np.testing.assert_array_equal(made.weights, peer.data)
    np.testing.assert_array_equal(made.pixels, peer.indices)
    np.testing.assert_array_equal(made.starts, peer.indptr)
    np.testing.assert_array_equal(made.centers, peer.bin_centers * geometry_unit(unit).scale)
    share = np.ones(mask.shape, dtype=np.float32)
    if instrument.solid_angle:
        share *= geometry.solidAngleArray(mask.shape)
    if instrument.polarization is not None:
        share *= geometry.polarization(mask.shape, instrument.polarization)
    np.testing.assert_array_equal(made.normalization, share.ravel())


def test_a_mask_of_all_pixels_is_refused():
    with pytest.raises(OptionError, match="the mask leaves no pixel of the detector"):
        lookup_table.build_table(_instrument(mask=packed(np.ones(SHAPE, dtype=bool))))


@pytest.mark.parametrize("method", ["trimmed", "median"])
def test_points_that_are_sorted_in_parts_are_those_sorted_at_once(monkeypatch, method):
    frame = np.random.default_rng(0).poisson(30, SHAPE).astype(np.uint32)
    table = Table(_instrument())
    whole = table.integrate(frame, Average(method))
    monkeypatch.setattr("ndtomo_dask.kernels.integration.SORTED_ENTRIES", 700)
    assert len(list(table.in_parts())) > 5
    for part, wanted in zip(table.integrate(frame, Average(method)), whole, strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_threads_do_not_change_which_pixels_are_clipped():
    config = '{"pixel1": 2e-4, "pixel2": 2e-4, "max_shape": [300, 300]}'
    table = Table(Instrument(_calibration("Detector", config), (300, 300), 400, "q"))
    frame = np.random.default_rng(0).poisson(30, (300, 300)).astype(np.uint32)
    frame[::7, ::5] = 5000
    found = []
    for threads in (1, *([4] * 12)):
        with threadpool_limits(threads, user_api="openmp"):
            found.append(table.integrate(frame, Average("sigma_clip", cutoff=2.0)).intensity)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
