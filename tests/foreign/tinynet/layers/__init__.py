from .linear import Linear, Tanh, Sequential
from .conv1d import Conv1d
