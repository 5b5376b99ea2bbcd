r"""A readout learned on fixed features: the replica-symmetric fixed point.

n = αK examples of K features u each; their labels are learned by minimising

    Σ_μ ℓ(y_μ, a·u_μ/sqrt(K)) + (λ/2) ‖a‖².

Where the teacher's field ν, with y = sign(ν) or y = ν, and the student's field a·u/sqrt(K) are
jointly Gaussian, three covariances say all about the data: Ω = Cov(u), τ = E[u ν] and ρ_ν = E[ν²].
In the limit n, K → ∞ at fixed α the student's field ω before the example is learned has variance q
and covariance m with ν, and learning the example moves it to prox_{Vℓ}(ω). With Ω = U diag(e) Uᵀ
and t2 = (Uᵀτ)²,

    V = (1/K) Σ_k e_k/(λ + V̂ e_k)       m = m̂ Σ_k t2_k/(λ + V̂ e_k)
    q = (q̂/K) Σ_k e_k²/(λ + V̂ e_k)² + m̂² Σ_k t2_k e_k/(λ + V̂ e_k)²,

and, with f_y = (prox_{Vℓ(y,·)}(ω) - ω)/V, ω = sqrt(q) ξ, ξ ~ N(0, 1), and the label's probability
Z_y = P(y | ω), a normal distribution function of M = m ω/q with variance ρ_ν - m²/q,

    V̂ = -α Σ_y E[Z_y ∂_ω f_y]           q̂ = α Σ_y E[Z_y f_y²]         m̂ = α Σ_y E[∂_M Z_y f_y].

Both labels contribute the same, so that y = 1 stands for both. Source: Gerace et al. (2022),
Loureiro et al. (2021).

`covariates` are these three moments, `equivalence` finds them for features of hidden manifolds and
of data; `losses` holds the proximal maps, `fixed_point` the two halves of the map over `nodes`,
`iteration` the search for its fixed point, `solution` what follows from it, `optimum` the λ of
least test error, `solver` the two functions that are called. `tlnb.theory.glm` collects the names.
"""
