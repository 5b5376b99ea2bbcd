"""What the couplings of the layers are, and the kernels that belong to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Couplings = tuple[float, ...]


class Kernels(NamedTuple):
    """Nested kernels of both training sets with n inputs: UᵀK_st (P_s, n), K_t and K_tt (P_t, n).

    Without the readouts' precisions, and not yet divided by what the overlaps hold.
    """

    V: Array
    K_t: Array
    K_tt: Array


class Inputs(NamedTuple):
    """Inner products of both training sets with n inputs, and the scaled squared norms of these."""

    of_source: Array
    own: Array
    norms: Array
