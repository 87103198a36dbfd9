"""What a survey keeps of the samples that it reads."""

import numpy as np

from ndtomo_dask.survey.sample import LARGEST, Sample, _keep_largest


def empty():
    return Sample(np.arange(1), 1, np.arange(1), np.zeros((1, 1)), np.zeros(1))


def test_the_largest_values_are_counted_whatever_the_blocks(rng):
    values = np.minimum(rng.poisson(3, 60_000), 6).astype(np.float32)
    whole, parts = empty(), empty()
    _keep_largest(whole, values)
    for part in np.array_split(values, 7):
        _keep_largest(parts, part)
    for sample in (whole, parts):
        assert sample.largest[-1] == 6
        assert sample.times[-1] == (values == 6).sum() > LARGEST


def test_an_empty_block_changes_nothing():
    sample = empty()
    _keep_largest(sample, np.array([1.0, 2.0]))
    _keep_largest(sample, np.zeros(0))
    np.testing.assert_array_equal(sample.largest, [1, 2])
