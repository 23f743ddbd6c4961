"""Exact answers, and the derivation's own optimisation problems solved to convergence."""
