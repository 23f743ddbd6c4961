import numpy as np
# A small CNN. Every layer updates itself during backprop, so there's no optimizer.


class Conv3x3:
    # A convolution layer using 3x3 filters, no padding, stride 1.

    def __init__(self, num_filters):
        self.num_filters = num_filters
        self.filters = np.random.randn(num_filters, 3, 3) / 9

    def iterate_regions(self, image):
        """
        Generates all possible 3x3 image regions.
        - image is a 2d numpy array
        """
        h, w = image.shape
        for i in range(h - 2):
            for j in range(w - 2):
                yield image[i : (i + 3), j : (j + 3)], i, j

    def forward(self, input):
        """
        Returns a 3d numpy array with dimensions (h - 2, w - 2, num_filters).
        - input is a 2d numpy array
        """
        self.last_input = input
        h, w = input.shape
        output = np.zeros((h - 2, w - 2, self.num_filters))
        for im_region, i, j in self.iterate_regions(input):
            output[i, j] = np.sum(im_region * self.filters, axis=(1, 2))
        return output

    def backprop(self, d_L_d_out, learn_rate):
        """
        - d_L_d_out is the loss gradient for this layer's outputs.
        - learn_rate is a float.
        """
        d_L_d_filters = np.zeros(self.filters.shape)
        for im_region, i, j in self.iterate_regions(self.last_input):
            for f in range(self.num_filters):
                d_L_d_filters[f] += d_L_d_out[i, j, f] * im_region

        # Update filters
        self.filters -= learn_rate * d_L_d_filters

        # first layer of the network: the gradient for the image isn't needed
        return None


class MaxPool2:
    # Pool size 2.

    def forward(self, input):
        """input is 3d: (h, w, num_filters)"""
        self.last_input = input
        h, w, f = input.shape
        h, w = h // 2, w // 2
        return input[: 2 * h, : 2 * w].reshape(h, 2, w, 2, f).max(axis=(1, 3))

    def backprop(self, d_L_d_out):
        d_L_d_input = np.zeros(self.last_input.shape)
        h, w, f = d_L_d_out.shape
        for i in range(h):
            for j in range(w):
                for k in range(f):
                    region = self.last_input[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, k]
                    a, b = np.unravel_index(region.argmax(), (2, 2))
                    d_L_d_input[2 * i + a, 2 * j + b, k] = d_L_d_out[i, j, k]
        return d_L_d_input


class Softmax:
    # A fully-connected layer with softmax activation.

    def __init__(self, input_len, nodes):
        self.weights = np.random.randn(input_len, nodes) / input_len
        self.biases = np.zeros(nodes)

    def forward(self, input):
        """Returns a 1d array with the probability of each class."""
        self.last_input_shape = input.shape
        input = input.flatten()
        self.last_input = input
        totals = np.dot(input, self.weights) + self.biases
        self.last_totals = totals
        exp = np.exp(totals)
        return exp / np.sum(exp, axis=0)

    def backprop(self, d_L_d_out, learn_rate):
        exp = np.exp(self.last_totals)
        p = exp / exp.sum()

        # Gradients of loss against totals
        d_L_d_t = p * (d_L_d_out - np.sum(d_L_d_out * p))

        d_L_d_w = self.last_input[np.newaxis].T @ d_L_d_t[np.newaxis]
        d_L_d_b = d_L_d_t
        d_L_d_inputs = self.weights @ d_L_d_t

        # Update weights / biases
        self.weights -= learn_rate * d_L_d_w
        self.biases -= learn_rate * d_L_d_b
        return d_L_d_inputs.reshape(self.last_input_shape)
