import numpy as np
import pytest

from ndtomo_dask.errors import SchemaError
from ndtomo_dask.io.dimensions import dimension_of, line_of, named, settle, subset


def test_positions_of_every_point_reduce_to_one_axis(tmp_path):
    x, y = np.meshgrid(np.arange(8.0), np.arange(3.0))
    np.testing.assert_array_equal(line_of(x, where="x"), np.arange(8.0))
    np.testing.assert_array_equal(line_of(y, where="y"), np.arange(3.0))
    with pytest.raises(SchemaError, match="varies along more than one axis"):
        line_of(x + y, where="x")


def test_a_square_image_is_ambiguous_until_named():
    with pytest.raises(SchemaError, match="cannot be told apart"):
        settle((5, 5, 9), [None] * 3, {"channel": 9, "y": 5}, "volume", "data")
    found = settle((9, 5, 5), [None, "y", None], {"channel": 9}, "volume", "data")
    assert found == ("channel", "y", "x")


@pytest.mark.parametrize(
    ("word", "kind", "dimension"),
    [
        ("theta", "sinogram", "angle"),
        ("x", "sinogram", "translation"),
        ("x", "volume", "x"),
        ("y", "sinogram", "z"),
        ("y", "volume", "y"),
        ("energy_eV", "volume", "channel"),
        ("2theta", "sinogram", "channel"),
        ("temperature", "sinogram", None),
        ("", "sinogram", None),
    ],
)
def test_words_of_files_mean_dimensions(word, kind, dimension):
    assert dimension_of(word, kind) == dimension


def test_a_name_used_twice_stays_open():
    assert named(["theta", "y", "x", "detector_y", "detector_x"], "sinogram") == [
        "angle", None, None, None, None,
    ]  # fmt: skip


def test_a_part_of_the_axes_is_found_in_their_order():
    sizes = {"angle": 6, "z": 3, "translation": 8}
    assert subset((3, 8), sizes, where="flat") == ("z", "translation")
    assert subset((8, 3), sizes, where="flat") is None
    with pytest.raises(SchemaError, match=r"monitor \(6,\) may lie along \('angle',\) or"):
        subset((6,), {"angle": 6, "translation": 6}, where="monitor")
