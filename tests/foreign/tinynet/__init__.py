from .layers import Linear, Conv1d, Sequential, Tanh
from .losses import CrossEntropyLoss, MSELoss

__version__ = '0.1.0'
