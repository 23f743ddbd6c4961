"""Training and evaluation as users of other libraries would write them at their best; checked before they are timed.

A peer is a module with `loss`, `training` and `log_likelihood`; `jax_training.py` and `torch_training.py` are whole
programs.
"""
