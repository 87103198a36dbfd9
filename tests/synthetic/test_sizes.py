import dask
import numpy as np
import pytest

import ndtomo_dask as nd
from ndtomo_dask import cli
from ndtomo_dask.errors import OptionError
from ndtomo_dask.synthetic.sizes import plan_scan, scan_sizes


@pytest.mark.parametrize("size", ["2MB", "100MB", "8GB", "1TB", "50TB"])
def test_a_scan_is_as_large_as_was_asked_for(size):
    sizes = scan_sizes(size)
    wanted = float(size[:-2]) * {"MB": 1e6, "GB": 1e9, "TB": 1e12}[size[-2:]]
    nbytes = 4 * np.prod([sizes[name] for name in ("size", "angles", "channels", "slices")])
    assert wanted <= nbytes < 1.5 * wanted


def test_a_terabyte_is_planned_without_a_count(no_compute):
    ds = nd.simulate_scan(**scan_sizes("1TB"), spots=10)
    made = plan_scan(ds)
    assert made.written_bytes >= 1e12
    assert made.projected_mem <= made.allowed_mem
    assert sum(len(ds[name].chunks or ()) > 0 for name in ("true_phase_map", "true_strain")) == 2
    eager = sum(ds[name].nbytes for name in ds.variables if ds[name].chunks is None)
    assert eager < 10e6


def test_the_command_plans_and_writes_nothing(tmp_path, capsys):
    output = tmp_path / "scan.zarr"
    assert cli.main(["simulate", str(output), "--size", "1MB", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "z, 48 angle, 32 translation, 128 channel" in said
    assert "About" in said
    assert "hours of one core" in said
    assert not output.exists()


def test_the_command_streams_a_scan_and_its_truth_to_a_store(tmp_path):
    output = tmp_path / "scan.zarr"
    with dask.config.set(scheduler="sync"):
        assert cli.main(["simulate", str(output), "--size", "1MB", "--slices", "2"]) == 0
    stored = nd.open_scan(output)
    assert stored.sinogram.sizes == {"z": 2, "angle": 48, "translation": 32, "channel": 128}
    expected = nd.simulate_scan(size=32, angles=48, channels=128, slices=2)
    for name in ("sinogram", "true_phase_map", "true_strain"):
        np.testing.assert_array_equal(stored[name], expected[name], name)


def test_too_few_bytes_are_refused():
    with pytest.raises(OptionError, match="a scan of 1kB is too small to choose its sizes"):
        scan_sizes("1kB")
