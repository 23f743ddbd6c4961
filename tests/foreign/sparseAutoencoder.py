import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def initializeParameters(hiddenSize, visibleSize):
    r = np.sqrt(6) / np.sqrt(hiddenSize + visibleSize + 1)
    W1 = np.random.rand(hiddenSize, visibleSize) * 2 * r - r
    W2 = np.random.rand(visibleSize, hiddenSize) * 2 * r - r
    return np.concatenate((W1.ravel(), W2.ravel(), np.zeros(hiddenSize), np.zeros(visibleSize)))


def sparseAutoencoderCost(theta, visibleSize, hiddenSize, lambda_, sparsityParam, beta, data):
    # data: one example per column
    n = hiddenSize * visibleSize
    W1 = theta[0:n].reshape(hiddenSize, visibleSize)
    W2 = theta[n : 2 * n].reshape(visibleSize, hiddenSize)
    b1 = theta[2 * n : 2 * n + hiddenSize]
    b2 = theta[2 * n + hiddenSize :]
    m = data.shape[1]

    a2 = sigmoid(W1.dot(data) + b1[:, None])
    a3 = sigmoid(W2.dot(a2) + b2[:, None])
    rho_hat = a2.mean(axis=1)
    rho = sparsityParam

    kl = np.sum(rho * np.log(rho / rho_hat) + (1 - rho) * np.log((1 - rho) / (1 - rho_hat)))
    cost = np.sum((a3 - data) ** 2) / (2 * m) + lambda_ / 2 * (np.sum(W1**2) + np.sum(W2**2)) + beta * kl

    delta3 = (a3 - data) * a3 * (1 - a3)
    sparse = beta * (-rho / rho_hat + (1 - rho) / (1 - rho_hat))
    delta2 = (W2.T.dot(delta3) + sparse[:, None]) * a2 * (1 - a2)

    W1grad = delta2.dot(data.T) / m + lambda_ * W1
    W2grad = delta3.dot(a2.T) / m + lambda_ * W2
    b1grad = delta2.mean(axis=1)
    b2grad = delta3.mean(axis=1)
    return cost, np.concatenate((W1grad.ravel(), W2grad.ravel(), b1grad, b2grad))


def softICACost(theta, numFeatures, data, lambda_=0.1, epsilon=1e-2):
    visible, m = data.shape
    W = theta.reshape(numFeatures, visible)
    Wx = W.dot(data)
    res = W.T.dot(Wx) - data
    pen = np.sqrt(Wx**2 + epsilon)
    cost = lambda_ / m * pen.sum() + 0.5 / m * np.sum(res**2)
    grad = lambda_ / m * (Wx / pen).dot(data.T) + 1.0 / m * (W.dot(res).dot(data.T) + W.dot(data).dot(res.T))
    return cost, grad.ravel()
