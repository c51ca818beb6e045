"""The native TV-L1: kernels written once as vector expressions, compiled by Numba's LLVM.

``vectors`` is the notation, ``sweep``, ``warp`` and ``median`` the three kernels, ``pyramid`` the
resizing, ``stages`` runs them over a level, ``solver`` is the algorithm, ``compiled`` the cache on
the disk.

Why not plain Numba loops: Numba cannot say that arrays do not overlap, so LLVM leaves loops over
ten arrays scalar unless every stride is a compile-time constant, which ties a compilation to a
frame size. With explicit vectors nothing is left to prove, the strides are run-time values, any
size runs the same machine code, and loads can be pipelined by hand. Only IEEE operations are used
(add, multiply, fused multiply-add, divide, square root, min, max; no reciprocal estimates, no
reassociation), so that flows are the same, bit for bit, on every machine with fused multiply-add.
"""
