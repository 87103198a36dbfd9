"""How large blocks, shards and their inner chunks are, and what a block makes a task hold."""

from collections.abc import Collection, Mapping
from math import ceil, prod

from ndtomo_dask.byte_sizes import MB

LARGEST_BLOCK = 128 * MB
"""Beyond this, larger blocks save nothing: a task already takes seconds."""
LEAST_TASKS = 8
"""Enough pieces to keep a few workers busy to the end."""
INNER_CHUNK = MB
"""Bytes of one chunk inside a shard: small enough to hover over, large enough for a disk."""
FRAMES_PER_TASK = 256
"""Detector frames of one task: some ten seconds of integration."""
TILE = 64
"""Edge of the pixel tiles inside a shard of images."""
VECTOR = 16
"""Channels per block are a multiple of this where they can be, to fill the CPU's vectors."""
READ_BUFFERS = 16 * INNER_CHUNK
"""Compressed and decoded inner chunks in flight while a block is read."""
LARGEST_GRAM = 8000
"""Channels up to which all their products are summed, unless a verb is told otherwise."""
MANY_SPECTRA = 100_000
"""Spectra from which NMF spares itself the products of all channels: of fewer they take no time."""
FEW = 16
"""Channels per direction from which products with directions take half the time of all, or less."""
BESIDE = 10
"""Directions beside those that are wanted: what they hold does not leak into the others."""
USUAL_COMPONENTS = 10
GRAM_ROWS = 2048
"""Pixels per matrix product in the moments of the spectra."""

_HELD = {
    "fbp": (9, 4), "sirt": (14, 9), "os_sirt": (12, 14), "sart": (12, 14), "cgls": (22, 16),
    "mlem": (18, 8), "osem": (8, 14), "tv": (20, 44), "vectorial_tv": (20, 36),
    "nuclear": (20, 48), "project": (4, 4), "self_absorption": (22, 44),
}  # fmt: skip
"""Quarters of the sinogram block and of the volume block that each method holds at once: measured.
A quarter is the mask of what is finite."""
_HELD_FOR = {"accelerated": (6, 8), "cutoff": (8, 0), "start": (0, 8), "stop": (5, 0),
             "variance": (12, 28), "weighted": (20, 3)}  # fmt: skip
"""What an option adds to that."""
_WRITING, _WRITING_PROJECTIONS = (4, 12), (8, 4)
"""The same while the result is written, behind corrections whose block may still be held."""


def blocks_of(sizes: Mapping[str, int], block: Mapping[str, int]) -> int:
    """Count the blocks of a grid; dimensions without an entry are whole.

    >>> blocks_of({"y": 10, "channel": 7}, {"channel": 3})
    3
    """
    return prod(ceil(size / block.get(dim, size)) for dim, size in sizes.items())


def even(size: int, largest: int) -> int:
    """Cut ``size`` into as few equal pieces as fit ``largest``; return the piece.

    >>> even(160, 64)
    54
    """
    return ceil(size / ceil(size / max(1, largest)))


def divisor(size: int, wanted: int) -> int:
    """Cut ``size`` into equal pieces without a rest, about ``wanted`` long.

    That is the divisor of ``size`` nearest to ``wanted`` by ratio; a prime has only itself.

    >>> divisor(64, 20), divisor(101, 20)
    (16, 101)
    """
    pieces = _divisors(size)
    return min(pieces, key=lambda piece: max(piece, wanted) / min(piece, wanted))


def _divisors(size: int) -> list[int]:
    return [piece for piece in range(1, size + 1) if size % piece == 0]


def cut_to_fit(size: int, largest: int) -> int:
    """Cut a stored block into pieces that fit: without a rest, unless they would be tiny."""
    piece = max(piece for piece in _divisors(size) if piece <= max(1, largest))
    return piece if 2 * piece >= largest else even(size, largest)


def shard_of_projections(sizes: Mapping[str, int], itemsize: int) -> dict[str, int]:
    """Block of a raw sinogram: one frame, some angles, all translations, all channels."""
    row = sizes["translation"] * sizes["channel"] * itemsize
    angles = min(max(1, 64 * MB // row), max(1, ceil(sizes["angle"] / LEAST_TASKS)))
    return {**dict.fromkeys(sizes, 1), "angle": angles, "translation": sizes["translation"],
            "channel": sizes["channel"]}  # fmt: skip


def frames_block(sizes: Mapping[str, int], fast: str) -> dict[str, int]:
    """Positions of a scan whose frames one task integrates: lines along ``fast``, or a part of one.

    >>> frames_block({"angle": 180, "translation": 60}, fast="angle")
    {'angle': 180, 'translation': 1}
    """
    core = [dim for dim in sizes if dim in ("angle", "translation")]
    slow = next((dim for dim in core if dim != fast), fast)
    frames = min(FRAMES_PER_TASK, max(1, ceil(prod(sizes.values()) / LEAST_TASKS)))
    block = dict.fromkeys(sizes, 1)
    if sizes[fast] > frames:
        return block | {fast: even(sizes[fast], frames)}
    return block | {slow: even(sizes[slow], frames // sizes[fast]), fast: sizes[fast]}


def inner_chunk(block: Mapping[str, int], itemsize: int) -> dict[str, int]:
    """Cut a block where the next reader will cut: projections by channel, images into tiles.

    >>> inner_chunk({"angle": 16, "translation": 256, "channel": 4096}, 4)
    {'angle': 16, 'translation': 256, 'channel': 61}
    >>> inner_chunk({"y": 160, "x": 160, "channel": 64}, 4)
    {'y': 54, 'x': 54, 'channel': 64}
    """
    inner = dict(block)
    if "translation" in block and "channel" in block:
        row = prod(size for dim, size in block.items() if dim != "channel") * itemsize
        inner["channel"] = even(block["channel"], max(1, INNER_CHUNK // row))
    for dim in ("y", "x"):
        if dim in block:
            inner[dim] = even(block[dim], TILE)
    return inner


def image_block(
    sizes: Mapping[str, int],
    itemsize: int,
    *,
    allowed_mem: int,
    multiple: int = VECTOR,
    method: str = "fbp",
    options: Collection[str] = (),
    grid: tuple[int, int] | None = None,
) -> dict[str, int]:
    """Block of whole images: one slice, all of each image, as many channels as fit.

    ``sizes`` are those of a sinogram or of a volume; ``multiple`` is the channel extent of the
    stored chunks, so that none is read twice; ``grid`` is what a sinogram is reconstructed on.
    """
    image, volume = image_bytes(sizes, itemsize, grid)
    per_channel = bytes_per_channel(image, volume, method, options)
    fit = max(0, allowed_mem - READ_BUFFERS) // per_channel
    largest = min(fit, LARGEST_BLOCK // max(image, volume), ceil(sizes["channel"] / LEAST_TASKS))
    channels = _round_down(max(1, largest), min(multiple, sizes["channel"]), fit)
    lead = {dim: 1 for dim in sizes if dim in ("time", "z")}
    return {**lead, **{dim: sizes[dim] for dim in sizes if dim not in lead}, "channel": channels}


def image_bytes(
    sizes: Mapping[str, int], itemsize: int, grid: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Bytes of one channel's sinogram and of its image; of an image twice where that is all."""
    if "angle" not in sizes:
        return sizes["y"] * sizes["x"] * itemsize, sizes["y"] * sizes["x"] * itemsize
    width = sizes["translation"]
    return sizes["angle"] * width * itemsize, prod(grid or (width, width)) * itemsize


def bytes_per_channel(image: int, volume: int, method: str, options: Collection[str] = ()) -> int:
    """Bytes that one channel takes when a block is reconstructed, or written if that is more."""
    parts = [_HELD[method], *(_HELD_FOR[name] for name in options if name in _HELD_FOR)]
    images, volumes = map(sum, zip(*parts, strict=True))
    held = image * images + volume * volumes
    images, volumes = _WRITING_PROJECTIONS if method == "project" else _WRITING
    return ceil(max(held, image * images + volume * volumes) / 4)


def _round_down(channels: int, multiple: int, fit: int) -> int:
    rounded = channels // multiple * multiple
    if rounded:
        return rounded
    return multiple if multiple <= fit else channels


def spectra_block(
    sizes: Mapping[str, int], itemsize: int, *, allowed_mem: int, tile: Mapping[str, int]
) -> dict[str, int]:
    """Block of whole spectra: as many stored tiles of pixels as fit, with all their channels."""
    spectrum = sizes["channel"] * itemsize
    many = sizes["channel"] > LARGEST_GRAM
    beside = sketch_bytes(sizes, USUAL_COMPONENTS) if many else gram_bytes(sizes)
    budget = min(LARGEST_BLOCK, max(0, allowed_mem - READ_BUFFERS - beside) // 2)
    pixels = max(1, budget // spectrum)
    pixels = min(pixels, max(tile["y"] * tile["x"], ceil(sizes["y"] * sizes["x"] / LEAST_TASKS)))
    across = min(sizes["x"], max(tile["x"], pixels // tile["y"] // tile["x"] * tile["x"]))
    down = min(sizes["y"], max(tile["y"], pixels // across // tile["y"] * tile["y"]))
    lead = {dim: 1 for dim in sizes if dim in ("time", "z")}
    return {**lead, "y": down, "x": across, "channel": sizes["channel"]}


def gram_bytes(sizes: Mapping[str, int]) -> int:
    """Bytes of the moments beside the block.

    A slab of rows in both precisions, its product and the sum; or, where the sums of two blocks are
    merged, three of these.
    """
    channels = sizes["channel"]
    return max(12 * channels**2 + 13 * GRAM_ROWS * channels, 24 * channels**2)


def sketch_bytes(sizes: Mapping[str, int], components: int) -> int:
    """Bytes beside the block of products with a few directions: a slab of rows, and such sums."""
    channels = sizes["channel"]
    return 13 * GRAM_ROWS * channels + 32 * channels * (basis_rank(components) + BESIDE)


def is_sketched(spectra: int, channels: int, components: int) -> bool:
    """Tell whether NMF is made from products with a few directions, not from those of all."""
    few = spectra >= MANY_SPECTRA and channels >= FEW * (basis_rank(components) + BESIDE)
    return few or channels > LARGEST_GRAM


def basis_rank(components: int) -> int:
    """Vectors of a basis in which so many components of NMF are found."""
    return max(2 * components, components + 8)
