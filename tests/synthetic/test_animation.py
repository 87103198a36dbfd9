"""A scan drawn as a moving picture."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError, SchemaError


def test_a_scan_is_drawn_in_as_many_pictures_as_are_asked_for(tmp_path):
    table = nd.simulate_acquisition(angles=6, translations=5, path="zigzag", passes=2)
    path = nd.animate_acquisition(table, tmp_path / "scan.gif", frames=5, rate=4)
    with Image.open(path) as drawn:
        assert drawn.format == "GIF"
        assert drawn.n_frames == 5
        assert drawn.info["duration"] == 250
        pictures = []
        for number in range(5):
            drawn.seek(number)
            pictures.append(np.asarray(drawn.convert("RGB"), dtype=int))
    changes = [np.abs(b - a).max() for a, b in pairwise(pictures)]
    assert min(changes) > 50  # something moves in each


def test_what_cannot_be_drawn_is_refused(tmp_path):
    table = nd.simulate_acquisition(angles=2, translations=2)
    with pytest.raises(SchemaError, match="takes the table that simulate_acquisition makes"):
        nd.animate_acquisition(table.drop_vars("angle"), tmp_path / "scan.gif")
    with pytest.raises(OptionError, match=r"a name that ends in \.gif, not 0, 15 and 'a\.gif'"):
        nd.animate_acquisition(table, tmp_path / "a.gif", frames=0)
    with pytest.raises(OptionError, match=r"ends in \.gif, not 60, 15 and 'a\.mp4'"):
        nd.animate_acquisition(table, tmp_path / "a.mp4")
