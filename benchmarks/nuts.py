"""A compiled sampler to compare with: NUTS on all weights of the same posterior, by blackjax.

    python benchmarks/nuts.py tasks.npz draws.npz --temperature 0.1 --width 40

Needs blackjax (and with it jax), which the book does not: `make bench NUTS=path/to/python` runs
this file with an interpreter that has them. Hidden weights and readouts in units of their priors,
double precision, one thread, a warm-up of 1000 steps by window adaptation of step and diagonal
metric, then 1000 draws, chain after chain. What is kept: readout norm and test error of every draw,
and the processor time of warm-up and draws, without that of compilation.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # read when jax is imported
)

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

CHAINS, WARMUP, DRAWS = 4, 1000, 1000


def main() -> None:
    """Compile, sample, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks")
    parser.add_argument("draws")
    parser.add_argument("--temperature", type=float, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    X, y, X_test, y_test = (jnp.asarray(x) for x in np.load(given.tasks).values())
    shape = (given.width, X.shape[1] + 1)

    def output(weights: jax.Array, X: jax.Array) -> jax.Array:
        h = X @ weights[:, :-1].T / jnp.sqrt(X.shape[1])
        return erf(h) @ weights[:, -1] / jnp.sqrt(len(weights))

    def log_density(weights: jax.Array) -> jax.Array:
        misfit = jnp.sum((y - output(weights, X)) ** 2) / given.temperature
        return -0.5 * (misfit + jnp.sum(weights**2))

    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)

    @jax.jit
    def chain(key: jax.Array) -> jax.Array:
        start, warm, draw = jax.random.split(key, 3)
        (state, settings), _ = adaptation.run(warm, jax.random.normal(start, shape), WARMUP)
        kernel = blackjax.nuts(log_density, **settings)

        def step(state: object, key: jax.Array) -> tuple[object, jax.Array]:
            state, info = kernel.step(key, state)
            weights = state.position
            error = jnp.mean((y_test - output(weights, X_test)) ** 2)
            norm = jnp.mean(weights[:, -1] ** 2)
            return state, jnp.stack([norm, error, info.num_integration_steps])

        return jax.lax.scan(step, state, jax.random.split(draw, DRAWS))[1]

    keys = jax.random.split(jax.random.PRNGKey(given.seed), CHAINS)
    compiled = chain.lower(keys[0]).compile()
    begin = time.process_time()
    found = np.stack([np.asarray(compiled(key)) for key in keys])
    seconds = time.process_time() - begin
    norm, error, gradients = np.moveaxis(found, -1, 0)
    kept = {"order_parameter": norm, "test_error": error, "gradients": gradients}
    np.savez(given.draws, seconds=seconds, **kept)


if __name__ == "__main__":
    main()
