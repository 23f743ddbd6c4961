import numpy as np


# Batch normalization
class Layer_BatchNorm:
    def __init__(self, n_inputs, epsilon=1e-5, momentum=0.9):
        self.gammas = np.ones((1, n_inputs))
        self.betas = np.zeros((1, n_inputs))
        self.epsilon = epsilon
        self.momentum = momentum
        self.running_mean = np.zeros((1, n_inputs))
        self.running_var = np.ones((1, n_inputs))

    # Forward pass
    def forward(self, inputs, training=True):
        self.inputs = inputs
        if training:
            mean = np.mean(inputs, axis=0, keepdims=True)
            var = np.var(inputs, axis=0, keepdims=True)
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            mean, var = self.running_mean, self.running_var
        # Keep them for the backward pass
        self.std = np.sqrt(var + self.epsilon)
        self.normalized = (inputs - mean) / self.std
        self.output = self.gammas * self.normalized + self.betas

    # Backward pass
    def backward(self, dvalues):
        samples = len(dvalues)
        # Gradients on parameters
        self.dgammas = np.sum(dvalues * self.normalized, axis=0, keepdims=True)
        self.dbetas = np.sum(dvalues, axis=0, keepdims=True)
        # Gradient on values
        self.dinputs = (
            self.gammas / (samples * self.std) * (samples * dvalues - self.dbetas - self.normalized * self.dgammas)
        )


# Convolution with one channel
class Layer_Conv2D:
    def __init__(self, n_filters, size):
        self.weights = 0.1 * np.random.randn(n_filters, size, size)
        self.biases = np.zeros(n_filters)
        self.size = size

    def forward(self, inputs):
        self.inputs = inputs
        s = self.size
        n, h, w = inputs.shape
        self.output = np.empty((n, len(self.weights), h - s + 1, w - s + 1))
        for i in range(h - s + 1):
            for j in range(w - s + 1):
                patch = inputs[:, i : i + s, j : j + s]
                self.output[:, :, i, j] = np.tensordot(patch, self.weights, axes=([1, 2], [1, 2])) + self.biases

    def backward(self, dvalues):
        s = self.size
        self.dweights = np.zeros_like(self.weights)
        self.dinputs = np.zeros_like(self.inputs)
        self.dbiases = dvalues.sum(axis=(0, 2, 3))
        for i in range(dvalues.shape[2]):
            for j in range(dvalues.shape[3]):
                patch = self.inputs[:, i : i + s, j : j + s]
                self.dweights += np.tensordot(dvalues[:, :, i, j], patch, axes=([0], [0]))
                self.dinputs[:, i : i + s, j : j + s] += np.tensordot(
                    dvalues[:, :, i, j], self.weights[:, ::-1, ::-1], axes=([1], [0])
                )


# Tanh activation
class Activation_Tanh:
    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.tanh(inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues * (1 - self.output**2)


# Leaky ReLU activation
class Activation_LeakyReLU:
    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.where(inputs > 0, inputs, self.alpha * inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues.copy()
        self.dinputs[self.inputs <= 0] = self.alpha


# Linear activation
class Activation_Linear:
    def forward(self, inputs):
        self.inputs = inputs
        self.output = inputs

    def backward(self, dvalues):
        # derivative is 1, 1 * dvalues = dvalues - the chain rule
        self.dinputs = dvalues.copy()


# Binary cross-entropy loss
class Loss_BinaryCrossentropy:
    def calculate(self, output, y):
        return np.mean(self.forward(output, y))

    def forward(self, y_pred, y_true):
        y_pred_clipped = np.clip(y_pred, 1e-7, 1 - 1e-7)
        sample_losses = -(y_true * np.log(y_pred_clipped) + (1 - y_true) * np.log(1 - y_pred_clipped))
        return np.mean(sample_losses, axis=-1)

    def backward(self, dvalues, y_true):
        samples = len(dvalues)
        outputs = len(dvalues[0])
        clipped_dvalues = np.clip(dvalues, 1e-7, 1 - 1e-7)
        self.dinputs = -(y_true / clipped_dvalues - (1 - y_true) / (1 - clipped_dvalues)) / outputs
        self.dinputs = self.dinputs / samples
