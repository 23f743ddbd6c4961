import numpy as np

# exercise 2: exam scores
data = np.loadtxt("ex2data1.txt", delimiter=",")
X = np.c_[np.ones(len(data)), data[:, :2]]
y = data[:, 2]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def costFunction(theta, X, y):
    h = sigmoid(X @ theta)
    return -np.mean(y * np.log(h) + (1 - y) * np.log(1 - h)), X.T @ (h - y) / len(y)


theta = np.zeros(X.shape[1])
for _ in range(400):
    cost, grad = costFunction(theta, X, y)
    theta -= 0.001 * grad
print("cost", cost)
