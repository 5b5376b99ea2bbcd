"""Gaussian integrals of functions of one variable, by panels and Hermite series."""

from __future__ import annotations


def kernel(function, kinks, c_xx, c_xy, c_yy):
    raise NotImplementedError


kernel_diagonal = hermite_coefficients = kernel
