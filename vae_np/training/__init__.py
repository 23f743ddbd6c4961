"""Training: data and arithmetic of a step, the loops around it, and λ per datapoint."""
