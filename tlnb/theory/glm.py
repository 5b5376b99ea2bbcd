"""The replica theory of a readout on fixed features, its names in one place.

`GaussianCovariates` say what the readout sees, `solve` trains it in the limit, `learning_curve` at
every number of examples, `proximal` is what learning one example does. The formulas stand in
`tlnb.theory.readout`.
"""

from tlnb._renamed import renamed_names
from tlnb.theory.readout.covariates import GaussianCovariates
from tlnb.theory.readout.losses import proximal
from tlnb.theory.readout.solution import GLMSolution
from tlnb.theory.readout.solver import learning_curve, solve

__all__ = ["GLMSolution", "GaussianCovariates", "learning_curve", "proximal", "solve"]

__getattr__ = renamed_names(__name__)
