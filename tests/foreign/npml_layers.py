from abc import ABC, abstractmethod

import numpy as np


class LayerBase(ABC):
    def __init__(self, optimizer=None):
        """An abstract base class inherited by all layers"""
        self.X = []
        self.act_fn = None
        self.trainable = True
        self.optimizer = optimizer

        self.gradients = {}
        self.parameters = {}
        self.derived_variables = {}
        super().__init__()

    @abstractmethod
    def _init_params(self, **kwargs):
        raise NotImplementedError

    @abstractmethod
    def forward(self, z, **kwargs):
        """Perform a forward pass through the layer"""
        raise NotImplementedError

    @abstractmethod
    def backward(self, out, **kwargs):
        """Perform a backward pass through the layer"""
        raise NotImplementedError

    def flush_gradients(self):
        """Erase all the layer's derived variables and gradients."""
        assert self.trainable, "Layer is frozen"
        self.X = []
        for k, v in self.derived_variables.items():
            self.derived_variables[k] = []

        for k, v in self.gradients.items():
            self.gradients[k] = np.zeros_like(v)


class ReLU:
    def __call__(self, z):
        return self.fn(z)

    def fn(self, z):
        return np.clip(z, 0, np.inf)

    def grad(self, x):
        return (x > 0).astype(int)

    def grad2(self, x):
        return np.zeros_like(x)


class Tanh:
    def __call__(self, z):
        return self.fn(z)

    def fn(self, z):
        return np.tanh(z)

    def grad(self, x):
        return 1 - np.tanh(x) ** 2

    def grad2(self, x):
        t = np.tanh(x)
        return -2 * t * (1 - t**2)


class FullyConnected(LayerBase):
    def __init__(self, n_out, act_fn=None, optimizer=None):
        r"""
        A fully-connected (dense) layer.

        Notes
        -----
        A fully connected layer computes the function

        .. math::

            \mathbf{Y} = f( \mathbf{WX} + \mathbf{b} )

        where `f` is the activation nonlinearity, **W** and **b** are
        parameters of the layer, and **X** is the minibatch of input examples.

        Parameters
        ----------
        n_out : int
            The dimensionality of the layer output
        act_fn : callable or None
            The element-wise output nonlinearity. If None, use Tanh.
        """
        super().__init__(optimizer)
        self.n_in = None
        self.n_out = n_out
        self.act_fn = act_fn if act_fn is not None else Tanh()
        self.is_initialized = False

    def _init_params(self):
        scale = np.sqrt(6.0 / (self.n_in + self.n_out))
        W = np.random.uniform(-scale, scale, size=(self.n_in, self.n_out))
        b = np.zeros((1, self.n_out))

        self.parameters = {"W": W, "b": b}
        self.derived_variables = {"Z": []}
        self.gradients = {"W": np.zeros_like(W), "b": np.zeros_like(b)}
        self.is_initialized = True

    def forward(self, X, retain_derived=True):
        """
        Compute the layer output on a single minibatch.

        Parameters
        ----------
        X : ndarray of shape `(n_ex, n_in)`
        retain_derived : bool
            Whether to keep what the backward pass needs. Default is True.

        Returns
        -------
        Y : ndarray of shape `(n_ex, n_out)`
        """
        if not self.is_initialized:
            self.n_in = X.shape[1]
            self._init_params()

        Y, Z = self._fwd(X)

        if retain_derived:
            self.X.append(X)
            self.derived_variables["Z"].append(Z)

        return Y

    def _fwd(self, X):
        W = self.parameters["W"]
        b = self.parameters["b"]
        Z = X @ W + b
        return self.act_fn(Z), Z

    def backward(self, dLdy, retain_grads=True):
        """
        Backprop from layer outputs to inputs.

        Parameters
        ----------
        dLdy : ndarray of shape `(n_ex, n_out)` or list of arrays
        retain_grads : bool
            Whether to include the intermediate parameter gradients computed
            during the backward pass in the final parameter update.

        Returns
        -------
        dLdX : ndarray of shape `(n_ex, n_in)` or list of arrays
        """
        assert self.trainable, "Layer is frozen"
        if not isinstance(dLdy, list):
            dLdy = [dLdy]

        dX = []
        for dy, x in zip(dLdy, self.X):
            dx, dw, db = self._bwd(dy, x)
            dX.append(dx)

            if retain_grads:
                self.gradients["W"] += dw
                self.gradients["b"] += db

        return dX[0] if len(self.X) == 1 else dX

    def _bwd(self, dLdy, X):
        W = self.parameters["W"]
        b = self.parameters["b"]

        Z = X @ W + b
        dZ = dLdy * self.act_fn.grad(Z)

        dX = dZ @ W.T
        dW = X.T @ dZ
        dB = dZ.sum(axis=0, keepdims=True)
        return dX, dW, dB


class Softmax(LayerBase):
    def __init__(self, dim=-1, optimizer=None):
        super().__init__(optimizer)
        self.dim = dim
        self._init_params()

    def _init_params(self):
        self.gradients = {}
        self.parameters = {}
        self.derived_variables = {}

    def forward(self, X, retain_derived=True):
        Y = self._fwd(X)
        if retain_derived:
            self.X.append(X)
        return Y

    def _fwd(self, X):
        e_X = np.exp(X - np.max(X, axis=self.dim, keepdims=True))
        return e_X / e_X.sum(axis=self.dim, keepdims=True)

    def backward(self, dLdy, retain_grads=True):
        if not isinstance(dLdy, list):
            dLdy = [dLdy]
        dX = [self._bwd(dy, x) for dy, x in zip(dLdy, self.X)]
        return dX[0] if len(self.X) == 1 else dX

    def _bwd(self, dLdy, X):
        """
        Actual computation of the gradient of the loss wrt. the input X.

        The Jacobian, J, of the softmax for input x = [x1, ..., xn] is
            J[i, j] = softmax(xi)(1 - softmax(xj)) if i == j, else
                      -softmax(xi) softmax(xj)
        """
        dX = []
        for dy, x in zip(dLdy, X):
            dxi = []
            for dyi, xi in zip(*np.atleast_2d(dy, x)):
                yi = self._fwd(xi.reshape(1, -1)).reshape(-1, 1)
                J = np.diagflat(yi) - yi @ yi.T
                dxi.append(dyi @ J)
            dX.append(dxi)
        return np.array(dX).reshape(*X.shape)


class Multiply(LayerBase):
    def __init__(self, optimizer=None):
        """An element-wise product layer for a list of inputs."""
        super().__init__(optimizer)
        self._init_params()

    def _init_params(self):
        self.gradients = {}
        self.parameters = {}
        self.derived_variables = {}

    def forward(self, X, retain_derived=True):
        out = np.ones_like(X[0])
        for x in X:
            out = out * x
        if retain_derived:
            self.X.append(X)
        return out

    def backward(self, dLdY, retain_grads=True):
        X = self.X[-1]
        grads = []
        for i in range(len(X)):
            g = dLdY
            for j, other in enumerate(X):
                if j != i:
                    g = g * other
            grads.append(g)
        return grads
