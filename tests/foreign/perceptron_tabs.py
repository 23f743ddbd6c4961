# perceptron with one hidden layer, tabs for ever
from numpy import *


class mlp:
    """A Multi-Layer Perceptron"""

    def __init__(self, nin, nhidden, nout, beta=1.0):
        self.beta = beta
        self.weights1 = (random.rand(nin + 1, nhidden) - 0.5) * 2 / sqrt(nin)
        self.weights2 = (random.rand(nhidden + 1, nout) - 0.5) * 2 / sqrt(nhidden)

    def mlpfwd(self, inputs):
        """Run the network forward; a column of -1 is the bias node"""
        self.inputs = concatenate((inputs, -ones((shape(inputs)[0], 1))), axis=1)
        self.hidden = 1.0 / (1.0 + exp(-self.beta * dot(self.inputs, self.weights1)))
        self.hidden = concatenate((self.hidden, -ones((shape(inputs)[0], 1))), axis=1)
        return dot(self.hidden, self.weights2)

    def error(self, inputs, targets):
        return 0.5 * sum((self.mlpfwd(inputs) - targets) ** 2)

    def mlpgrad(self, inputs, targets):
        """gradients of error() for weights1 and weights2"""
        outputs = self.mlpfwd(inputs)
        deltao = outputs - targets
        deltah = self.hidden * (1.0 - self.hidden) * dot(deltao, transpose(self.weights2))
        grad1 = dot(transpose(self.inputs), deltah[:, :-1])
        grad2 = dot(transpose(self.hidden), deltao)
        return self.beta * grad1, grad2


def layer(x, w):
    return tanh(dot(x, w))


def layer_grad(x, w, delta):
    """delta: error of the output; returns the error of x and the gradient of w"""
    d = delta * (1 - layer(x, w) ** 2)
    return dot(d, w.T), dot(x.T, d)
