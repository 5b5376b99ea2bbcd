"""Break the package in one place at a time and show that the tests notice: `make mutants`.

Each mutant is applied to a copy of the repository; one file of unit tests and one notebook must
then fail, and both pass without it. A mutant that survives fails the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutant(NamedTuple):
    """``old`` stands once in ``file``; ``test`` and ``notebook`` must notice ``new`` there.

    No notebook: no chapter has it.
    """

    what: str
    file: str
    old: str
    new: str
    test: str
    notebook: str


ACTIVATIONS, PRIORS = "tlnb/kernels/activations.py", "tlnb/priors.py"
ONE_TASK, TRANSFER = "tlnb/theory/one_task/", "tlnb/theory/transfer/"
LIKELIHOOD, DRAWN = "tlnb/sampling/likelihood.py", "tlnb/sampling/transfer.py"
OUTPUTS = "tlnb/theory/outputs/"
LARGE = "tlnb/theory/large/"
MUTANTS = [
    Mutant(
        "constant of the arcsine kernel",
        ACTIVATIONS,
        "(2.0 * c_xy, kernel, out=kernel)\n    kernel *= 2.0",
        "(2.0 * c_xy, kernel, out=kernel)\n    kernel *= 1.9",
        "kernels/test_activations.py",
        "01_infinite_width",
    ),
    Mutant(
        "constant of the arc-cosine kernel",
        ACTIVATIONS,
        "kernel *= 0.5 / np.pi",
        "kernel *= 0.52 / np.pi",
        "kernels/test_activations.py",
        "01_infinite_width",
    ),
    Mutant(
        "sign in the stationarity equation of one task",
        ONE_TASK + "action.py",
        "eigenvalues / G * (1 - squared_projections / G)",
        "eigenvalues / G * (1 + squared_projections / G)",
        "theory/one_task/test_one_task_problem.py",
        "02_proportional_limit",
    ),
    Mutant(
        "variance of the one-task predictor",
        ONE_TASK + "solution.py",
        "self.Q * (test.k - share @ test.V_squared)",
        "self.Q * (test.k - 0.9 * share @ test.V_squared)",
        "theory/one_task/test_one_task_problem.py",
        "02_proportional_limit",
    ),
    Mutant(
        "data term of the exact linear law",
        "tlnb/theory/exact/linear.py",
        "data = x * (pull / noise).sum(axis=1)",
        "data = 0.9 * x * (pull / noise).sum(axis=1)",
        "theory/exact/test_linear.py",
        "03_exact_linear_networks",
    ),
    Mutant(
        "sign in a stationarity equation of transfer",
        TRANSFER + "action.py",
        "excess / D**2) + tr_A - AF - r @ Ar",
        "excess / D**2) + tr_A + AF - r @ Ar",
        "theory/transfer/test_saddle.py",
        "05_franz_parisi_action",
    ),
    Mutant(
        "the action where it is expanded, and with it the evidence",
        TRANSFER + "action.py",
        "log_det + tr_F + r @ r)",
        "log_det - tr_F + r @ r)",
        "theory/transfer/test_saddle.py",
        "",
    ),
    Mutant(
        "the explicit Q_st",
        TRANSFER + "action.py",
        "(blocks.width / (blocks.Q_s * D) - trace_m + uWu)",
        "(blocks.width / (blocks.Q_s * D) + trace_m + uWu)",
        "theory/transfer/test_saddle.py",
        "05_franz_parisi_action",
    ),
    Mutant(
        "variance of the coupled prior",
        PRIORS,
        "1 / (precision + coupling) + b**2 * c_s",
        "1 / (precision + coupling) + b * c_s",
        "theory/transfer/test_transfer_problem.py",
        "05_franz_parisi_action",
    ),
    Mutant(
        "the source's part of the mean",
        TRANSFER + "predictor.py",
        "mean = x * from_labels",
        "mean = 0.9 * x * from_labels",
        "theory/transfer/test_transfer_problem.py",
        "05_franz_parisi_action",
    ),
    Mutant(
        "cross term of the variances",
        TRANSFER + "predictor.py",
        "2 * test.K_tt - self.K_tt @ a",
        "test.K_tt - self.K_tt @ a",
        "theory/transfer/test_transfer_problem.py",
        "05_franz_parisi_action",
    ),
    Mutant(
        "variance of an example that was left out",
        "tlnb/theory/leave_one_out.py",
        "own = np.maximum(1 / inverse_diagonal - temperature, 0.0)",
        "own = np.maximum(1 / inverse_diagonal, 0.0)",
        "theory/test_leave_one_out.py",
        "06_order_parameters",
    ),
    Mutant(
        "what the target has seen of a source's kernel, predicted directly",
        TRANSFER + "direct.py",
        "dgemm(-1.0, a.T",
        "dgemm(-0.9, a.T",
        "theory/transfer/test_transfer_problem.py",
        "",
    ),
    Mutant(
        "what the source explains of an example that was left out",
        TRANSFER + "predictor.py",
        "spread -= x**2 * self._known(W)",
        "spread += x**2 * self._known(W)",
        "theory/test_leave_one_out.py",
        "06_order_parameters",
    ),
    Mutant(
        "source variance of an example that was left out",
        "tlnb/theory/leave_one_out.py",
        "np.maximum(spread / inverse_diagonal**2, 0.0)",
        "np.maximum(spread / inverse_diagonal, 0.0)",
        "theory/test_leave_one_out.py",
        "",
    ),
    Mutant(
        "residual of an example that was left out",
        "tlnb/theory/leave_one_out.py",
        "residual = solved / inverse_diagonal",
        "residual = solved / inverse_diagonal**2",
        "theory/test_leave_one_out.py",
        "06_order_parameters",
    ),
    Mutant(
        "the choice is of least error",
        "tlnb/gain/candidates.py",
        "return int(self.left_out.test_error.mean(axis=1).argmin())",
        "return int(self.left_out.squared_bias.mean(axis=1).argmin())",
        "gain/test_tool.py",
        "",
    ),
    Mutant(
        "the error of a gain counts the choice",
        "tlnb/gain/verdict.py",
        "return float(np.sqrt(variance if resampled is None else variance + resampled.var()))",
        "return float(np.sqrt(variance))",
        "gain/test_verdict.py",
        "",
    ),
    Mutant(
        "candidates are weighed by how far they are from the best",
        "tlnb/gain/verdict.py",
        "weights = np.exp(-(E - E.min()) / scale)",
        "weights = (E == E.min()).astype(float)",
        "gain/test_verdict.py",
        "",
    ),
    Mutant(
        "LEEP: the joint of classes",
        "tlnb/scores.py",
        "likelihood = ((which @ conditional) * theta).sum(axis=1)",
        "likelihood = ((which @ joint) * theta).sum(axis=1)",
        "test_scores.py",
        "",
    ),
    Mutant(
        "LogME: the noise that is left",
        "tlnb/scores.py",
        "misfit = (z2 / (1 + e / ratio)).sum() + outside",
        "misfit = (z2 / (1 + e / ratio) ** 2).sum() + outside",
        "test_scores.py",
        "",
    ),
    Mutant(
        "H-score: class means by the size of their class",
        "tlnb/scores.py",
        "return float((sums**2 / which.sum(axis=0)[:, None]).sum())",
        "return float((sums**2 / which.sum(axis=0)[:, None] ** 2).sum())",
        "test_scores.py",
        "",
    ),
    Mutant(
        "kernel alignment: centring",
        "tlnb/scores.py",
        "K = K - K.mean(axis=0) - K.mean(axis=0)[:, None] + K.mean()",
        "K = K - K.mean(axis=0) - K.mean(axis=0)[:, None]",
        "test_scores.py",
        "",
    ),
    Mutant(
        "the matched prior",
        TRANSFER + "kernels.py",
        "c_t = self.covariances(coupling).c_t",
        "c_t = self.covariances(coupling).c_s",
        "theory/transfer/test_transfer_problem.py",
        "06_order_parameters",
    ),
    Mutant(
        "sign in the gradient of the collapsed likelihood",
        LIKELIHOOD,
        "solved -= alpha[:, :, None] * np.matmul",
        "solved += alpha[:, :, None] * np.matmul",
        "sampling/test_likelihood.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "determinant of the collapsed likelihood",
        LIKELIHOOD,
        "log_det = 2 * np.log(diagonal)",
        "log_det = 1.5 * np.log(diagonal)",
        "sampling/test_likelihood.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "gradient of plain HMC and Langevin in the hidden weights",
        LIKELIHOOD,
        "by_W *= v[..., None]",
        "by_W *= 0.8 * v[..., None]",
        "sampling/test_likelihood.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "spread of the readouts around their mean",
        LIKELIHOOD,
        "(of_mean + self.network.width - self.shrunk)",
        "(of_mean + self.network.width - 0.8 * self.shrunk)",
        "sampling/test_likelihood.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "energy that proposals are judged by",
        "tlnb/sampling/hmc.py",
        "0.5 * _sum(state.position**2 + velocity**2)",
        "0.4 * _sum(state.position**2 + velocity**2)",
        "sampling/test_hmc.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "kick between the ends of a trajectory",
        "tlnb/sampling/hmc.py",
        "p += step * pull(x, force(x))",
        "p += 0.9 * step * pull(x, force(x))",
        "sampling/test_hmc.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "what stands in for the error function",
        "tlnb/sampling/stand_ins.py",
        "LINEAR, CUBIC = 1.12968, 0.09979",
        "LINEAR, CUBIC = 1.12968, 0.08",
        "sampling/test_likelihood.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "slope of what stands in for the error function",
        "tlnb/sampling/stand_ins.py",
        "square *= 3 * CUBIC",
        "square *= 2 * CUBIC",
        "sampling/test_likelihood.py",
        "",
    ),
    Mutant(
        "noise of Langevin dynamics",
        "tlnb/sampling/hmc.py",
        "step * rng.standard_normal(x.shape)",
        "0.9 * step * rng.standard_normal(x.shape)",
        "sampling/test_hmc.py",
        "04_sampling_the_posterior",
    ),
    Mutant(
        "acceptance of an exchange between temperatures",
        "tlnb/sampling/tempering.py",
        "+ new_b.log_likelihood - a.log_likelihood",
        "- a.log_likelihood",
        "sampling/test_hmc.py",
        "07_theory_meets_simulation",
    ),
    Mutant(
        "centre of the coupled prior",
        DRAWN,
        "np.repeat(c_st / c_s * W",
        "np.repeat(0.8 * c_st / c_s * W",
        "sampling/test_transfer.py",
        "07_theory_meets_simulation",
    ),
    Mutant(
        "factor of the overlap with the source",
        DRAWN,
        "np.sqrt(given.source_readout_precision * given.readout_precision) / width",
        "0.9 * np.sqrt(given.source_readout_precision * given.readout_precision) / width",
        "sampling/test_transfer.py",
        "07_theory_meets_simulation",
    ),
    Mutant(
        "the other replica",
        DRAWN,
        "np.roll(v, 1, axis=1)",
        "np.roll(v, 0, axis=1)",
        "sampling/test_transfer.py",
        "07_theory_meets_simulation",
    ),
    Mutant(
        "what a layer's overlap with the source owes to the layer above",
        "tlnb/theory/deep/wishart.py",
        "2 * (t * x / s - y - x + x * E / D)",
        "2 * (t * x / s - y + x * E / D)",
        "theory/deep/test_deep_action.py",
        "10_deep_networks",
    ),
    Mutant(
        "nested kernel of source and target",
        "tlnb/theory/deep/nested.py",
        "rows, c_ab * K, columns",
        "rows, 0.9 * c_ab * K, columns",
        "theory/deep/test_nested.py",
        "10_deep_networks",
    ),
    Mutant(
        "variances of deep targets",
        "tlnb/theory/deep/solution.py",
        "2 * epsilon - self.E @ W_delta",
        "epsilon - self.E @ W_delta",
        "theory/deep/test_deep_problem.py",
        "10_deep_networks",
    ),
    Mutant(
        "scale of a deep layer's inputs",
        "tlnb/sampling/deep_likelihood.py",
        "h /= W.shape[-1] ** 0.5",
        "h /= W.shape[-1] ** 0.45",
        "sampling/test_deep.py",
        "10_deep_networks",
    ),
    Mutant(
        "feature overlap of hidden manifolds",
        "tlnb/data/manifold.py",
        "np.sqrt(1 - η**2)",
        "np.sqrt(1 - η)",
        "data/test_manifold.py",
        "11_hidden_manifolds",
    ),
    Mutant(
        "variance of features that have a mean",
        "tlnb/theory/readout/equivalence.py",
        "g.dual_diagonal(s, s, s) - g0**2",
        "g.dual_diagonal(s, s, s) - 0.5 * g0**2",
        "theory/readout/test_equivalence.py",
        "11_hidden_manifolds",
    ),
    Mutant(
        "covariance of features and teacher",
        "tlnb/theory/readout/equivalence.py",
        "τ = u.slope * (W @ (x.slope",
        "τ = 0.8 * u.slope * (W @ (x.slope",
        "theory/readout/test_equivalence.py",
        "11_hidden_manifolds",
    ),
    Mutant(
        "what the labels add to the variance of the student's field",
        "tlnb/theory/readout/fixed_point.py",
        "m_hat**2 * (t2 * er) @ r",
        "0.9 * m_hat**2 * (t2 * er) @ r",
        "theory/readout/test_solver.py",
        "12_replica_readout",
    ),
    Mutant(
        "slope of the logistic proximal map",
        "tlnb/theory/readout/losses.py",
        "-curvature / (1 + V * curvature)",
        "-curvature / (1 + 0.9 * V * curvature)",
        "theory/readout/test_solver.py",
        "12_replica_readout",
    ),
    Mutant(
        "square loss's pull on labels",
        "tlnb/theory/readout/fixed_point.py",
        "pull * (variance - 2 * slope * m + q) / (1 + V), pull * slope",
        "pull * (variance - slope * m + q) / (1 + V), pull * slope",
        "theory/readout/test_solver.py",
        "12_replica_readout",
    ),
    Mutant(
        "training error of the logistic readout",
        "tlnb/theory/readout/fixed_point.py",
        'border = -V / 2 if self.loss == "logistic"',
        'border = -V if self.loss == "logistic"',
        "theory/readout/test_solver.py",
        "12_replica_readout",
    ),
    Mutant(
        "gradient of a trained first layer",
        "tlnb/networks/training.py",
        "(scale * readout[:, None] * (back.T @ X))",
        "(scale * (back.T @ X))",
        "networks/test_two_layer.py",
        "13_transferred_features",
    ),
    Mutant(
        "slope of the logistic loss",
        "tlnb/networks/losses.py",
        "-y * expit(-y * f)",
        "-y * expit(y * f)",
        "networks/test_two_layer.py",
        "13_transferred_features",
    ),
    Mutant(
        "regularisation of a retrained readout",
        "tlnb/networks/training.py",
        "LogisticRegression(C=1 / penalty",
        "LogisticRegression(C=0.5 / penalty",
        "networks/test_two_layer.py",
        "13_transferred_features",
    ),
    Mutant(
        "the network that early stopping keeps",
        "tlnb/networks/training.py",
        "< self.best_score",
        "> self.best_score",
        "networks/test_two_layer.py",
        "13_transferred_features",
    ),
    Mutant(
        "gradient of a network trained to its mode",
        "tlnb/networks/transfer.py",
        "gradient -= (readout / np.sqrt(len(W)))",
        "gradient -= 0.9 * (readout / np.sqrt(len(W)))",
        "networks/test_transfer.py",
        "",
    ),
    Mutant(
        "the pull of a trained network towards its source",
        "tlnb/networks/transfer.py",
        "centre = c_st / c_s * source.first_layer",
        "centre = source.first_layer",
        "networks/test_transfer.py",
        "",
    ),
    Mutant(
        "decay of the readout in another way of writing a network",
        "tlnb/networks/parametrisations.py",
        "readout *= written.readout_scale(width) ** 2",
        "readout *= written.readout_scale(width)",
        "networks/test_parametrisations.py",
        "",
    ),
    Mutant(
        "order parameter of a unit's law",
        "tlnb/theory/unit_law/closure.py",
        "return Q * (1 + np.vdot(",
        "return Q * (1 - np.vdot(",
        "theory/unit_law/test_closure.py",
        "",
    ),
    Mutant(
        "force of the labels on a unit",
        "tlnb/theory/unit_law/closure.py",
        "covariance = noisy(Q * moments.second",
        "covariance = noisy(0.9 * Q * moments.second",
        "theory/unit_law/test_closure.py",
        "",
    ),
    Mutant(
        "control by the prior's kernel",
        "tlnb/theory/unit_law/moments.py",
        "prior, of_one = undone / undo,",
        "prior, of_one = undone,",
        "theory/unit_law/test_moments.py",
        "",
    ),
    Mutant(
        "a label left out of a unit's law",
        "tlnb/theory/unit_law/solution.py",
        "mean = y - closed.t / closed.variance",
        "mean = y - 1.1 * closed.t / closed.variance",
        "theory/unit_law/test_closure.py",
        "",
    ),
    Mutant(
        "halves of the source units",
        "tlnb/theory/unit_law/transfer_walk.py",
        "position = places.swapaxes(1, 2).reshape(G, -1, n)",
        "position = places.reshape(G, -1, n)",
        "theory/unit_law/test_transfer.py",
        "",
    ),
    Mutant(
        "what the source knows of the spread of targets",
        "tlnb/theory/unit_law/transfer_moments.py",
        "spread - 0.5 * (first + first.T)",
        "spread - 0.4 * (first + first.T)",
        "theory/unit_law/test_transfer.py",
        "",
    ),
    Mutant(
        "gradient of the field of a unit",
        "tlnb/theory/unit_law/moments.py",
        "slope *= t\n",
        "slope *= 0.9 * t\n",
        "theory/unit_law/test_moments.py",
        "",
    ),
    Mutant(
        "self-energy of a hidden unit",
        "tlnb/theory/unit_law/moments.py",
        "return Q * self.second + self.fourth / width",
        "return Q * self.second + Q * self.fourth / width",
        "theory/unit_law/test_closure.py",
        "",
    ),
    Mutant(
        "evidence of a target in the law of a unit",
        "tlnb/theory/unit_law/transfer_solution.py",
        "0.5 * temperature * np.trace(Gamma - C)",
        "0.5 * temperature * np.trace(Gamma + C)",
        "theory/unit_law/test_transfer.py",
        "",
    ),
    Mutant(
        "errors that know of two starts",
        "tlnb/theory/unit_law/solution.py",
        "np.sqrt(G), apart)",
        "np.sqrt(G), 0 * apart)",
        "theory/unit_law/test_one_task.py",
        "",
    ),
    Mutant(
        "labels that the units miss",
        "tlnb/theory/unit_law/walk.py",
        "drive += share * self.Q[g]",
        "drive += 0.9 * share * self.Q[g]",
        "theory/unit_law/test_one_task.py",
        "",
    ),
    Mutant(
        "force on a unit between the ends of its trajectory",
        "tlnb/theory/unit_law/tilt.py",
        "slope *= t\n",
        "slope *= 0.9 * t\n",
        "theory/unit_law/test_one_task.py",
        "",
    ),
    Mutant(
        "pull of the labels between two outputs",
        OUTPUTS + "action.py",
        "pull.T @ pull / width",
        "0.9 * pull.T @ pull / width",
        "theory/outputs/test_outputs_problem.py",
        "18_several_outputs",
    ),
    Mutant(
        "crossed part of the curvature in Q",
        OUTPUTS + "action.py",
        "1 - 2 * share, pull",
        "1 - share, pull",
        "theory/outputs/test_outputs_problem.py",
        "",
    ),
    Mutant(
        "covariance among the outputs",
        OUTPUTS + "solution.py",
        "variance = q * (test.k[:, None] - test.V_squared.T @ share)",
        "variance = q.mean() * (test.k[:, None] - test.V_squared.T @ share)",
        "theory/outputs/test_outputs_problem.py",
        "18_several_outputs",
    ),
    Mutant(
        "what several source outputs say of the target's",
        OUTPUTS + "transfer_action.py",
        "own -= np.einsum",
        "own += np.einsum",
        "theory/outputs/test_outputs_transfer.py",
        "18_several_outputs",
    ),
    Mutant(
        "curvature of the Franz-Parisi action of several outputs",
        OUTPUTS + "transfer_action.py",
        "DO = curved - AA + 2 * _pairs(WA, ZB, basis)",
        "DO = curved - AA + 2 * _pairs(WA, ZA, basis)",
        "theory/outputs/test_outputs_transfer.py",
        "",
    ),
    Mutant(
        "spread between sources of several outputs",
        OUTPUTS + "transfer.py",
        "shared -= cross + cross.swapaxes(1, 2)",
        "shared -= cross",
        "theory/outputs/test_outputs_transfer.py",
        "",
    ),
    Mutant(
        "simplex code of classes",
        "tlnb/data/outputs.py",
        "-1 / (len(known) - 1)",
        "-1 / len(known)",
        "data/test_outputs_task.py",
        "",
    ),
    Mutant(
        "votes of two classes",
        "tlnb/classifiers.py",
        "out=certain, where=deviation > 0))\n        return",
        "out=certain, where=deviation > 0) / 2)\n        return",
        "test_classifiers.py",
        "",
    ),
    Mutant(
        "determinant of the likelihood of several outputs",
        "tlnb/sampling/outputs_likelihood.py",
        "-0.5 * (C * log_det",
        "-0.5 * (log_det",
        "sampling/test_outputs.py",
        "",
    ),
    Mutant(
        "spread of readouts in the overlap of outputs",
        "tlnb/sampling/outputs_likelihood.py",
        "((N1 - shrunk) / N1)",
        "((N1 - C * shrunk) / N1)",
        "sampling/test_outputs.py",
        "",
    ),
    Mutant(
        "an example left out with all its outputs",
        OUTPUTS + "prediction.py",
        "np.matmul(private, solved[..., None])[..., 0]",
        "(np.einsum('naa->na', private) * solved)",
        "theory/outputs/test_outputs_problem.py",
        "",
    ),
    Mutant(
        "derivative of a large source's blocks in its order parameter",
        LARGE + "coupled.py",
        "into[part] = T * square - value",
        "into[part] = -T * square - value",
        "theory/large/test_problem.py",
        "",
    ),
    Mutant(
        "cross term of the predictor from a large source",
        LARGE + "known.py",
        "known.kk - 2 * cross",
        "known.kk - cross",
        "theory/large/test_problem.py",
        "",
    ),
    Mutant(
        "coupling at a share of the source's variance",
        LARGE + "nodes.py",
        "share * source_precision / (1 - share**2)",
        "share * source_precision / (1 - share)",
        "theory/large/test_problem.py",
        "",
    ),
    Mutant(
        "ends of the interpolation over couplings",
        LARGE + "nodes.py",
        "signs[[0, -1]] *= 0.5",
        "signs[[0, -1]] *= 0.6",
        "theory/large/test_problem.py",
        "",
    ),
    Mutant(
        "variance of a large task's predictor",
        LARGE + "one_task.py",
        "Q * k - Q**2 * found",
        "Q * k - Q * found",
        "theory/large/test_one_task.py",
        "",
    ),
    Mutant(
        "labels in the order parameter of a large source",
        LARGE + "source.py",
        "- fit + T * size) / width",
        "- fit - T * size) / width",
        "theory/large/test_source.py",
        "",
    ),
    Mutant(
        "slope that turns a trace's error into that of the order parameter",
        LARGE + "source.py",
        "slope -= 2 * T * (size",
        "slope += 2 * T * (size",
        "theory/large/test_source.py",
        "",
    ),
    Mutant(
        "second order of quadratic forms of an unfinished solution",
        LARGE + "iterative.py",
        "(B + self.residual)\n        return 0.5",
        "(B - self.residual)\n        return 0.5",
        "theory/large/test_source.py",
        "",
    ),
    Mutant(
        "tail of the low rank",
        LARGE + "low_rank.py",
        "max(float(lacking.mean()), 0.0)",
        "max(float(lacking.max()), 0.0)",
        "theory/large/test_source.py",
        "",
    ),
    Mutant(
        "known mean of the controls of a trace",
        LARGE + "traces.py",
        "(a**2 * h + a * g)",
        "(a**2 * h - a * g)",
        "theory/large/test_source.py",
        "",
    ),
    Mutant(
        "what a dropped point of a large source may be better by",
        LARGE + "screening.py",
        "- others.min() - changes.min())",
        "- others.min() - changes.max())",
        "theory/large/test_screening.py",
        "",
    ),
    Mutant(
        "errors of a large source's dropped points, moved as those kept",
        LARGE + "screening.py",
        "axis=0).ravel() + change",
        "axis=0).ravel() - change",
        "theory/large/test_screening.py",
        "",
    ),
    Mutant(
        "what solutions at other couplings make a first guess of",
        LARGE + "nodes.py",
        "factors.prod(axis=1) / apart.prod(axis=1)",
        "factors.prod(axis=1) / apart.prod(axis=0)",
        "theory/large/test_problem.py",
        "",
    ),
    Mutant(
        "control of the diagonal of a large inverse",
        LARGE + "traces.py",
        ".X - M.solve(z))",
        ".X - 0.9 * M.solve(z))",
        "theory/large/test_one_task.py",
        "",
    ),
    Mutant(
        "standard error of left-out errors of a large task",
        LARGE + "one_task.py",
        "((k - 1) * part.var(axis=0)",
        "(part.var(axis=0)",
        "theory/large/test_one_task.py",
        "",
    ),
    Mutant(
        "prior of a deep target alone",
        "tlnb/theory/deep/problem.py",
        "variances = [c.c_t for c in",
        "variances = [c.c_s for c in",
        "theory/deep/test_deep_baselines.py",
        "",
    ),
    Mutant(
        "which precisions of deep layers are the source's",
        "tlnb/theory/deep/couplings.py",
        "target_weight_precision=precision,",
        "target_weight_precision=1 / variance,",
        "theory/deep/test_deep_baselines.py",
        "",
    ),
    Mutant(
        "what unfinished solutions lack",
        LARGE + "iterative.py",
        "float(lacking.sum() / max",
        "float(0.5 * lacking.sum() / max",
        "theory/large/test_remainder.py",
        "",
    ),
]


def copy_of_repository(folder: Path) -> Path:
    """What git tracks, and new files it does not ignore, in ``folder``."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return folder


def passes(copy: Path, *arguments: str) -> bool:
    """Whether pytest passes in ``copy``, whose own package is the one imported there."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest {' '.join(arguments)} did not run:\n{done.stdout[-2000:]}")
    return done.returncode == 0


def checks(mutant: Mutant) -> tuple[tuple[str, ...], ...]:
    """pytest's arguments for the unit test and for the notebook, if there is one."""
    unit = (f"tests/{mutant.test}",)
    notebook = "--nbval-lax", "--nbval-cell-timeout=300", f"notebooks/{mutant.notebook}.ipynb"
    return (unit, notebook) if mutant.notebook else (unit,)


def noticed(mutant: Mutant) -> tuple[bool, ...]:
    """Whether the unit test and the notebook fail for this mutant."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_repository(Path(folder))
        path = copy / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            raise RuntimeError(f"{mutant.file} must hold once: {mutant.old!r}")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        return tuple(not passes(copy, *arguments) for arguments in checks(mutant))


def main() -> int:
    """Say of every mutant what noticed it; 1 if one survived."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        copy = copy_of_repository(Path(folder))
        unbroken = {arguments for mutant in MUTANTS for arguments in checks(mutant)}
        for arguments, passed in zip(
            unbroken, pool.map(lambda arguments: passes(copy, *arguments), unbroken), strict=True
        ):
            if not passed:
                raise RuntimeError(f"{arguments[-1]} fails without any mutant")
        print(f"{len(unbroken)} checks pass without a mutant", flush=True)
        survived = 0
        for mutant, found in zip(MUTANTS, pool.map(noticed, MUTANTS), strict=True):
            verdicts = ("noticed" if yes else "SURVIVED" for yes in found)
            report = zip((mutant.test, mutant.notebook), verdicts, strict=False)
            print(f"{mutant.what}: " + ", ".join(f"{a} {b}" for a, b in report), flush=True)
            survived += not all(found)
    print(f"{len(MUTANTS) - survived} mutants caught, {survived} survived")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
