"""What a trained model is worth on held-out rows: the ELBO and its parts, and estimates of log p(x)."""
