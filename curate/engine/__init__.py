"""The numerics: curvature, solvers, influence and suspicion, on tensors."""
