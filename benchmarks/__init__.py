"""Measurements of speed and memory: against peers, against the plans, and against itself.

``python -m benchmarks.peers``
    The same work by us and by each installed peer, as ratios, with the error of each beside them.
``python -m benchmarks.out_of_core``
    A scan larger than the memory of its workers, from raw counts to component maps.
``benchmarks.bench_kernels``
    Classes for asv: ``time_*``, ``peakmem_*`` and ``track_*`` at the sizes of `benchmarks.sizes`.
"""
