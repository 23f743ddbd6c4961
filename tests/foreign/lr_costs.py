#!/usr/bin/env python
# Ported from my Octave exercises. All vectors are 1-D.
import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def cost_and_gradient(theta, X, y):
    m = y.size
    h = sigmoid(X.dot(theta))
    J = -(y.dot(np.log(h)) + (1 - y).dot(np.log(1 - h))) / m
    grad = X.T.dot(h - y) / m
    return J, grad


def lrCostFunction(theta, X, y, lambda_):
    # regularized; theta[0] is the intercept and must not be penalized
    m = y.size
    h = sigmoid(X.dot(theta))
    J = -(y.dot(np.log(h)) + (1 - y).dot(np.log(1 - h))) / m
    J = J + lambda_ / (2 * m) * np.sum(theta[1:] ** 2)
    grad = X.T.dot(h - y) / m + lambda_ / m * theta
    return J, grad


def linearRegCostFunction(X, y, theta, lambda_=0.0):
    m = y.size
    r = X.dot(theta) - y
    J = r.dot(r) / (2 * m) + lambda_ / (2 * m) * np.sum(theta[1:] ** 2)
    grad = X.T.dot(r) / m
    grad[1:] += lambda_ / m * theta[1:]
    return J, grad


def nnCostFunction(nn_params, input_layer_size, hidden_layer_size, num_labels, X, y, lambda_):
    # unroll
    n1 = hidden_layer_size * (input_layer_size + 1)
    Theta1 = nn_params[:n1].reshape(hidden_layer_size, input_layer_size + 1)
    Theta2 = nn_params[n1:].reshape(num_labels, hidden_layer_size + 1)
    m = X.shape[0]

    a1 = np.hstack([np.ones((m, 1)), X])
    z2 = a1.dot(Theta1.T)
    a2 = np.hstack([np.ones((m, 1)), sigmoid(z2)])
    h = sigmoid(a2.dot(Theta2.T))
    Y = np.eye(num_labels)[y]

    J = np.sum(-Y * np.log(h) - (1 - Y) * np.log(1 - h)) / m
    J += lambda_ / (2.0 * m) * (np.sum(Theta1[:, 1:] ** 2) + np.sum(Theta2[:, 1:] ** 2))

    d3 = h - Y
    d2 = d3.dot(Theta2)[:, 1:] * sigmoid(z2) * (1 - sigmoid(z2))
    Theta1_grad = d2.T.dot(a1) / m
    Theta2_grad = d3.T.dot(a2) / m
    Theta1_grad[:, 1:] += lambda_ / m * Theta1[:, 1:]
    Theta2_grad[:, 1:] += lambda_ / m * Theta2[:, 1:]

    grad = np.concatenate([Theta1_grad.ravel(), Theta2_grad.ravel()])
    return J, grad


def cofiCostFunc(params, Y, R, num_users, num_movies, num_features, lambda_):
    # collaborative filtering
    X = params[: num_movies * num_features].reshape(num_movies, num_features)
    Theta = params[num_movies * num_features :].reshape(num_users, num_features)
    E = (X.dot(Theta.T) - Y) * R
    J = 0.5 * np.sum(E**2) + lambda_ / 2 * (np.sum(Theta**2) + np.sum(X**2))
    X_grad = E.dot(Theta) + lambda_ * X
    Theta_grad = E.T.dot(X) + lambda_ * Theta
    return J, np.concatenate([X_grad.ravel(), Theta_grad.ravel()])
