"""Inner loops that numba cannot be brought to write: sums that stay in vector registers.

LLVM vectorizes the loop over channels, which is the innermost; but to keep a vector of sums in
registers while angles or samples go by, that loop would have to be outside. So these loops
are written in LLVM's own language, with vectors of channels; numba inlines them into its callers.
All arrays are flat and contiguous, places count elements, and ``lanes`` is a constant (16, 32, 64).
No place is checked. Of floating point only contraction (a*b + c rounded once) is allowed, so a
lane is summed in the order written here, whatever the width of the vectors.
"""

# ruff: noqa: ARG001 - an intrinsic names its arguments, but is given them when it is compiled

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ndtomo_dask.errors import OptionError

Value = Any
"""A value of LLVM; llvmlite carries no types."""

WIDE = bool(llvm.get_host_cpu_features().get("avx512f", False))
"""Whether this processor has 32 registers of 64 bytes; else 16 of 32 bytes are counted on."""
REGISTER = 64 if WIDE else 32
"""Bytes of a vector."""
ROWS = 6
"""Rows of sums that one pass of `product` or `combine` holds."""
ACROSS = 4 if WIDE else 2
"""Vectors of sums in such a row: with the row of input they fill three quarters of registers."""
TAPS = 2
"""Samples between which a window is shifted."""

INDEX = ir.IntType(64)


class _Lanes:
    """Loads, stores and sums of vectors of lanes, in the block that a builder writes."""

    def __init__(self, builder: Any, real: Any, itemsize: int) -> None:
        self.builder = builder
        self.width = REGISTER // itemsize
        self.itemsize = itemsize
        self.type = ir.VectorType(real, self.width)

    def _pointer(self, base: Value, place: Value, number: int) -> Value:
        place = self.builder.add(place, INDEX(number * self.width))
        address = self.builder.gep(base, [place])
        return self.builder.bitcast(address, self.type.as_pointer())

    def load(self, base: Value, place: Value, number: int) -> Value:
        return self.builder.load(self._pointer(base, place, number), align=self.itemsize)

    def store(
        self, vector: Value, base: Value, place: Value, number: int, stream: Value = None
    ) -> None:
        address = self._pointer(base, place, number)
        aligned = self.itemsize if stream is None else REGISTER
        store = self.builder.store(vector, address, align=aligned)
        if stream is not None:
            store.set_metadata("nontemporal", stream)

    def fill(self, number: Value) -> Value:
        """Put one number into all lanes."""
        empty = ir.Constant(ir.VectorType(number.type, self.width), ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, empty, zeros)

    def spread(self, base: Value, place: Value) -> Value:
        """Load one number into all lanes."""
        return self.fill(self.builder.load(self.builder.gep(base, [place])))

    def add_product(self, total: Value, weight: Value, value: Value) -> Value:
        product = self.builder.fmul(weight, value, flags=("contract",))
        return self.builder.fadd(total, product, flags=("contract",))

    def zeros(self) -> Value:
        return ir.Constant(self.type, [0.0] * self.width)


Step = Callable[[Value, Sequence[Value]], Sequence[Value]]


def _sum_loop(builder: Any, count: Value, sums: Sequence[Value], step: Step) -> Sequence[Value]:
    """Carry ``sums`` through ``count`` steps (one at least), in registers."""
    before = builder.block
    head, done = builder.append_basic_block("sum"), builder.append_basic_block("summed")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(INDEX)
    carried = [builder.phi(total.type) for total in sums]
    found = step(index, carried)
    following = builder.add(index, INDEX(1))
    index.add_incoming(INDEX(0), before)
    index.add_incoming(following, builder.block)
    for phi, start, end in zip(carried, sums, found, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(end, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), head, done)
    builder.position_at_end(done)
    return found


def _open(context: Any, builder: Any, signature: Any, args: Any, arrays: int) -> Any:
    """Pointers of the arrays that come first, the numbers that follow, and the lanes' vectors."""
    kinds = signature.args[:arrays]
    data = [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(kinds, args[:arrays], strict=True)
    ]
    real = kinds[0].dtype
    vectors = _Lanes(builder, context.get_value_type(real), real.bitwidth // 8)
    return [*data, *args[arrays:-1], vectors]


def _count(lanes: Any) -> int:
    if not isinstance(lanes, types.IntegerLiteral):
        raise OptionError("the number of lanes must be a constant of the calling function.")
    return int(lanes.literal_value)


def _inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    made: Callable[..., Any] = intrinsic(prefer_literal=True)(function)
    return made


@_inlined
def locate(
    typing: Any, fractions: Any, first: Any, slot: Any, u: Any, step: Any, base: Any, lanes: Any,
    tile: Any,
) -> Any:  # fmt: skip
    """Write in which sample a row of pixels falls, and where between that and the next one.

    Pixel c, of a ``tile`` of them (a constant), is at u + c step, which must not be negative:
    sample n is at n ≤ u < n + 1, its lanes at base + n lanes, and f = u - n.
    """
    pixels = _count(tile)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        fractions, first, slot, u, step, base, lanes, vectors = _open(
            context, builder, signature, args, 2
        )
        whole = ir.VectorType(ir.IntType(32), vectors.width)
        real = vectors.type.element
        begin, rise = (
            number if real == ir.DoubleType() else builder.fptrunc(number, real)
            for number in (u, step)
        )
        size, offset = (builder.trunc(number, ir.IntType(32)) for number in (lanes, base))
        place = builder.mul(slot, INDEX(pixels))
        for n in range(pixels // vectors.width):
            columns = [float(n * vectors.width + i) for i in range(vectors.width)]
            numbers = ir.Constant(vectors.type, columns)
            position = vectors.add_product(vectors.fill(begin), numbers, vectors.fill(rise))
            sample = builder.fptosi(position, whole)
            fraction = builder.fsub(position, builder.sitofp(sample, vectors.type))
            found = builder.add(builder.mul(sample, vectors.fill(size)), vectors.fill(offset))
            vectors.store(fraction, fractions, place, n)
            here = builder.gep(first, [builder.add(place, INDEX(n * vectors.width))])
            builder.store(found, builder.bitcast(here, whole.as_pointer()), align=4)
        return context.get_dummy_value()

    size, real = types.intp, types.float64
    return types.void(fractions, first, size, real, real, size, size, tile), build


@_inlined
def accumulate(
    typing: Any, pixels: Any, taps: Any, first: Any, fractions: Any,
    columns: Any, angles: Any, pitch: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Add ``angles`` angles to a row of pixels, each with two taps; a pixel is stored once.

    pixel[c] += Σ_a near + f (far - near), where near = taps[first[a, c]], far is the next sample
    and f = fractions[a, c]; a counts ``pitch`` elements.
    """
    arrays = (pixels, taps, first, fractions)

    def add_taps(vectors: _Lanes, total: Value, near: Value, far: Value, weights: Any) -> Value:
        rise = vectors.builder.fsub(far, near)
        return vectors.builder.fadd(total, vectors.add_product(near, weights[0], rise))

    return _accumulating(arrays, (columns, angles, pitch, lanes), add_taps)


@_inlined
def accumulate_weighted(
    typing: Any, pixels: Any, taps: Any, first: Any, nears: Any, fars: Any,
    columns: Any, angles: Any, pitch: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Do the same with two weights: pixel[c] += Σ_a nears[a, c] near + fars[a, c] far."""
    arrays = (pixels, taps, first, nears, fars)

    def add_taps(vectors: _Lanes, total: Value, near: Value, far: Value, weights: Any) -> Value:
        total = vectors.add_product(total, weights[0], near)
        return vectors.add_product(total, weights[1], far)

    return _accumulating(arrays, (columns, angles, pitch, lanes), add_taps)


def _accumulating(arrays: Any, sizes: Any, add_taps: Callable[..., Value]) -> Any:
    """Signature and code of a sum over angles; arrays behind the third are weights of a tap."""
    wide, count = _count(sizes[-1]), len(arrays)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        opened = _open(context, builder, signature, args, count)
        (pixels, taps, first), tables = opened[:3], opened[3:count]
        columns, angles, pitch, vectors = opened[count:]
        numbers = range(wide // vectors.width)
        with cgutils.for_range(builder, columns) as loop:
            place = builder.mul(loop.index, INDEX(wide))

            def add_angle(angle: Value, totals: Sequence[Value]) -> Sequence[Value]:
                entry = builder.add(builder.mul(angle, pitch), loop.index)
                near = builder.zext(builder.load(builder.gep(first, [entry])), INDEX)
                far = builder.add(near, INDEX(wide))
                weights = [vectors.spread(table, entry) for table in tables]
                sums = []
                for n, total in enumerate(totals):
                    here, there = vectors.load(taps, near, n), vectors.load(taps, far, n)
                    sums.append(add_taps(vectors, total, here, there, weights))
                return sums

            start = [vectors.load(pixels, place, n) for n in numbers]
            for n, total in enumerate(_sum_loop(builder, angles, start, add_angle)):
                vectors.store(total, pixels, place, n)
        return context.get_dummy_value()

    size = types.intp
    return types.void(*arrays, size, size, size, sizes[-1]), build


@_inlined
def collect(
    typing: Any, sums: Any, pixels: Any, first: Any, weights: Any, place: Any, entry: Any,
    lines: Any, pitch: Any, table: Any, taps: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Add pixels of ``lines`` lines to a sample, ``taps`` (a constant) next to each other in each.

    sums[place] += Σ_n Σ_k weights[k, n] pixels[first[n] + k lanes]; n counts ``pitch`` elements
    from ``entry`` on, and k counts ``table``.
    """
    wide, many = _count(lanes), _count(taps)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        opened = _open(context, builder, signature, args, 4)
        sums, pixels, first, weights, place, entry, lines, pitch, table, _, vectors = opened

        def add_line(line: Value, totals: Sequence[Value]) -> Sequence[Value]:
            here, totals = builder.add(builder.mul(line, pitch), entry), list(totals)
            pixel = builder.zext(builder.load(builder.gep(first, [here])), INDEX)
            for k in range(many):
                slot = builder.add(here, builder.mul(table, INDEX(k)))
                weight = vectors.spread(weights, slot)
                near = builder.add(pixel, INDEX(k * wide))
                for n, total in enumerate(totals):
                    totals[n] = vectors.add_product(total, weight, vectors.load(pixels, near, n))
            return totals

        start = [vectors.load(sums, place, n) for n in range(wide // vectors.width)]
        for n, total in enumerate(_sum_loop(builder, lines, start, add_line)):
            vectors.store(total, sums, place, n)
        return context.get_dummy_value()

    size, arrays = types.intp, (sums, pixels, first, weights)
    return types.void(*arrays, size, size, size, size, size, taps, lanes), build


@_inlined
def stream(
    typing: Any, out: Any, pixels: Any, place: Any, step: Any, source: Any, count: Any, lanes: Any
) -> Any:
    """Copy some pixels past the caches: out[place + n step] = pixels[source + n lanes].

    Each begins on a line of the cache, in both arrays; nothing is read from ``out`` before.
    """
    wide = _count(lanes)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        out, pixels, place, step, source, count, vectors = _open(
            context, builder, signature, args, 2
        )
        mark = builder.module.add_metadata([ir.IntType(32)(1)])
        with cgutils.for_range(builder, count) as loop:
            here = builder.add(source, builder.mul(loop.index, INDEX(wide)))
            there = builder.add(place, builder.mul(loop.index, step))
            for n in range(wide // vectors.width):
                vectors.store(vectors.load(pixels, here, n), out, there, n, mark)
        return context.get_dummy_value()

    size = types.intp
    return types.void(out, pixels, size, size, size, size, lanes), build


@_inlined
def combine(
    typing: Any, out: Any, rays: Any, weights: Any, sources: Any, blocks: Any, angles: Any,
    lanes: Any,
) -> Any:  # fmt: skip
    """Write the sum of some short windows, each shifted by a fraction of a sample.

    out[s] = Σ_a Σ_k weights[a, k] rays[sources[a] + (s + k) lanes], k < `TAPS`, for ``blocks``
    times `ROWS` samples s.
    """
    wide = _count(lanes)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        out, rays, weights, sources, blocks, angles, vectors = _open(
            context, builder, signature, args, 4
        )
        across = min(ACROSS, wide // vectors.width)
        with cgutils.for_range(builder, blocks) as loop:
            place = builder.mul(loop.index, INDEX(ROWS * wide))
            for part in range(0, wide // vectors.width, across):

                def add_window(
                    angle: Value, sums: Sequence[Value], part: int = part
                ) -> Sequence[Value]:
                    source = builder.add(builder.load(builder.gep(sources, [angle])), place)
                    first = builder.mul(angle, INDEX(TAPS))
                    taps = [
                        vectors.spread(weights, builder.add(first, INDEX(k))) for k in range(TAPS)
                    ]
                    sums = list(sums)
                    for sample in range(ROWS + TAPS - 1):
                        here = builder.add(source, INDEX(sample * wide))
                        for n in range(across):
                            value = vectors.load(rays, here, part + n)
                            for k in range(TAPS):
                                if 0 <= sample - k < ROWS:
                                    slot = (sample - k) * across + n
                                    sums[slot] = vectors.add_product(sums[slot], taps[k], value)
                    return sums

                start = [vectors.zeros()] * (ROWS * across)
                for slot, total in enumerate(_sum_loop(builder, angles, start, add_window)):
                    row = builder.add(place, INDEX(slot // across * wide))
                    vectors.store(total, out, row, part + slot % across)
        return context.get_dummy_value()

    size = types.intp
    return types.void(out, rays, weights, sources, size, size, lanes), build


@_inlined
def product(
    typing: Any, out: Any, panels: Any, rows: Any, blocks: Any, terms: Any, lanes: Any
) -> Any:
    """Write a matrix times rows of lanes: out[i] = Σ_k matrix[i, k] rows[k].

    ``panels`` has the matrix as (block, k, `ROWS`), for ``blocks`` times `ROWS` rows i.
    """
    wide = _count(lanes)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        out, panels, rows, blocks, terms, vectors = _open(context, builder, signature, args, 3)
        across = min(ACROSS, wide // vectors.width)
        with cgutils.for_range(builder, blocks) as loop:
            panel = builder.mul(loop.index, builder.mul(terms, INDEX(ROWS)))
            place = builder.mul(loop.index, INDEX(ROWS * wide))
            for part in range(0, wide // vectors.width, across):

                def add_term(
                    term: Value, sums: Sequence[Value], part: int = part
                ) -> Sequence[Value]:
                    line = builder.mul(term, INDEX(wide))
                    entry = builder.add(panel, builder.mul(term, INDEX(ROWS)))
                    values = [vectors.load(rows, line, part + n) for n in range(across)]
                    sums = list(sums)
                    for row in range(ROWS):
                        weight = vectors.spread(panels, builder.add(entry, INDEX(row)))
                        for n in range(across):
                            slot = row * across + n
                            sums[slot] = vectors.add_product(sums[slot], weight, values[n])
                    return sums

                start = [vectors.zeros()] * (ROWS * across)
                for slot, total in enumerate(_sum_loop(builder, terms, start, add_term)):
                    row = builder.add(place, INDEX(slot // across * wide))
                    vectors.store(total, out, row, part + slot % across)
        return context.get_dummy_value()

    size = types.intp
    return types.void(out, panels, rows, size, size, lanes), build
