"""Sources of real size: kernels as tiles, iterative solutions, traces with their errors."""
