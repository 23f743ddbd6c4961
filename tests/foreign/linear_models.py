import numpy as np


class LogisticRegression:
    """Binary logistic regression trained by gradient descent.

    Parameters
    ----------
    lr : float
    n_iter : int
    C : float
        inverse regularization strength (like in scikit-learn)
    """

    def __init__(self, lr=0.1, n_iter=1000, C=1.0, verbose=False):
        self.lr = lr
        self.n_iter = n_iter
        self.C = C
        self.verbose = verbose

    @staticmethod
    def _sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def _loss(self, w, X, y):
        z = X @ w
        return np.sum(np.logaddexp(0, z) - y * z) + 0.5 / self.C * w @ w

    def _gradient(self, w, X, y):
        return X.T @ (self._sigmoid(X @ w) - y) + w / self.C

    def fit(self, X, y):
        self.w_ = np.zeros(X.shape[1])
        for i in range(self.n_iter):
            self.w_ -= self.lr / len(y) * self._gradient(self.w_, X, y)
            if self.verbose and i % 100 == 0:
                print(f"{i}: {self._loss(self.w_, X, y):.4f}")
        return self

    def predict_proba(self, X):
        return self._sigmoid(X @ self.w_)

    def predict(self, X):
        return (self.predict_proba(X) > 0.5).astype(int)


class RidgeRegression:
    def __init__(self, alpha=1.0, lr=0.01, n_iter=500):
        self.alpha, self.lr, self.n_iter = alpha, lr, n_iter

    def cost(self, X, y):
        r = X @ self.coef_ + self.intercept_ - y
        return np.mean(r**2) + self.alpha * np.sum(self.coef_**2)

    def gradient(self, X, y):
        r = X @ self.coef_ + self.intercept_ - y
        dw = 2 * X.T @ r / len(y) + self.alpha * self.coef_
        db = 2 * r.mean()
        return dw, db

    def fit(self, X, y):
        self.coef_ = np.zeros(X.shape[1])
        self.intercept_ = 0.0
        for _ in range(self.n_iter):
            dw, db = self.gradient(X, y)
            self.coef_ -= self.lr * dw
            self.intercept_ -= self.lr * db
        return self


class SoftmaxRegression:
    def __init__(self, n_features, n_classes, reg=1e-3):
        self.W = 0.01 * np.random.randn(n_features, n_classes)
        self.b = np.zeros(n_classes)
        self.reg = reg

    def loss(self, X, y=None):
        """Scores if y is None, otherwise (loss, grads)."""
        scores = X.dot(self.W) + self.b
        if y is None:
            return scores
        n = X.shape[0]
        scores -= scores.max(axis=1, keepdims=True)
        p = np.exp(scores)
        p /= p.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(n), y]).mean() + 0.5 * self.reg * np.sum(self.W**2)

        p[np.arange(n), y] -= 1
        p /= n
        grads = {"W": X.T.dot(p) + self.reg * self.W, "b": p.sum(axis=0)}
        return loss, grads


class PoissonRegression:
    def neg_loglik(self, beta, X, y):
        eta = X @ beta
        return np.sum(np.exp(eta) - y * eta)

    def score(self, beta, X, y):
        """gradient of the log-likelihood"""
        return X.T @ (y - np.exp(X @ beta))

    def hessian(self, beta, X, y):
        mu = np.exp(X @ beta)
        return -(X.T * mu) @ X
