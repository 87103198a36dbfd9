"""What hypothesis draws: axes, sizes of scans, chunkings."""

from itertools import pairwise

from hypothesis import strategies as st

angles_tth = st.floats(0.1, 120.0)
wavelengths = st.floats(0.05, 3.0)

scan_sizes = st.fixed_dictionaries(
    {
        "angle": st.integers(1, 2000),
        "translation": st.integers(1, 2000),
        "channel": st.integers(1, 5000),
    }
)
frames = st.one_of(st.just({}), st.fixed_dictionaries({"z": st.integers(1, 50)}))
volume_sizes = st.fixed_dictionaries(
    {"y": st.integers(1, 1500), "x": st.integers(1, 1500), "channel": st.integers(1, 5000)}
)
itemsizes = st.sampled_from([4, 8])
memory = st.integers(10**6, 20 * 10**9)


@st.composite
def chunkings(draw, size):
    """Cut a length into blocks, in any way."""
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=5))) if size > 1 else []
    ends = [0, *cuts, size]
    return tuple(b - a for a, b in pairwise(ends))
