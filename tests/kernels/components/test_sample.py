from functools import reduce

import numpy as np
import pytest

from ndtomo_dask.kernels.components import sample


def test_the_sample_does_not_depend_on_blocks(rng):
    data = rng.standard_normal((6000, 8)).astype("float32")
    data[[5, 700], 3] = np.nan
    number = np.arange(len(data))
    whole = sample.sample_finalize(sample.sample_partial(data, number, 0.1))
    cuts = [slice(4000, None), slice(0, 1500), slice(1500, 4000)]
    parts = [sample.sample_partial(data[cut], number[cut], 0.1) for cut in cuts]
    np.testing.assert_array_equal(
        sample.sample_finalize(reduce(sample.sample_combine, parts)), whole
    )
    assert len(whole) == pytest.approx(600, rel=0.02)
    assert np.isfinite(whole).all()


def test_the_first_rows_are_a_smaller_sample(rng):
    data, number = rng.standard_normal((6000, 3)), np.arange(6000)
    large, small = (
        sample.sample_finalize(sample.sample_partial(data, number, share)) for share in (0.5, 0.1)
    )
    np.testing.assert_array_equal(large[: len(small)], small)
