"""Measurements of speed and memory: against peers, against the plans, and against itself.

``python -m benchmarks.peers``
    The same work by us and by each installed peer, as ratios, with the error of each beside them.
``python -m benchmarks.out_of_core``
    A scan larger than the memory of its workers, from raw counts to component maps.
``python -m benchmarks.overhead``
    What Dask costs beside the bare work of the same blocks, and beside plain Zarr reading.
``python -m benchmarks.graphs``, ``python -m benchmarks.scheduler``
    The graph of a scan of ten terabytes; a million blocks that do nothing.
``python -m benchmarks.scaling``, ``python -m benchmarks.scaling_model``
    Strong and weak scaling, measured; large scans on many nodes, predicted.
``benchmarks.bench_kernels``
    Classes for asv: ``time_*``, ``peakmem_*`` and ``track_*`` at the sizes of `benchmarks.sizes`.
"""
