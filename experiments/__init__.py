"""What makes the files in results/: one module a chapter, run by ``python -m experiments``.

A chapter's module declares its sweeps in a dictionary, ``SWEEPS = {name: Sweep(function, grid,
seed=...), ...}``; ``python -m experiments 07 teacher`` then writes results/07_teacher.nc.
"""
