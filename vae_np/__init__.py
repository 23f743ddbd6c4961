"""A variational autoencoder from the mathematics up."""

__version__ = "0.1.0"
