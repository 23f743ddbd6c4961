#!/usr/bin/env python

import numpy as np
import random


def sigmoid(x):
    """
    Compute the sigmoid function for the input here.
    Arguments:
    x -- A scalar or numpy array.
    Return:
    s -- sigmoid(x)
    """
    return 1.0 / (1.0 + np.exp(-x))


def softmax(v):
    e = np.exp(v - np.max(v))
    return e / e.sum()


def naiveSoftmaxLossAndGradient(centerWordVec, outsideWordIdx, outsideVectors):
    """Naive softmax loss and gradient for word2vec models

    Arguments:
    centerWordVec -- numpy ndarray, center word's embedding, shape (d,)
    outsideWordIdx -- integer, the index of the outside word
    outsideVectors -- outside vectors for all words, shape (V, d)

    Return:
    loss -- naive softmax loss
    gradCenterVec -- gradient with respect to the center word vector
    gradOutsideVecs -- gradient with respect to all the outside word vectors
    """
    y_hat = softmax(outsideVectors.dot(centerWordVec))
    loss = -np.log(y_hat[outsideWordIdx])
    delta = y_hat.copy()
    delta[outsideWordIdx] -= 1
    gradCenterVec = outsideVectors.T.dot(delta)
    gradOutsideVecs = np.outer(delta, centerWordVec)
    return loss, gradCenterVec, gradOutsideVecs


def getNegativeSamples(outsideWordIdx, V, K):
    """Samples K indexes which are not the outsideWordIdx"""
    negSampleWordIndices = [None] * K
    for k in range(K):
        newidx = random.randrange(V)
        while newidx == outsideWordIdx:
            newidx = random.randrange(V)
        negSampleWordIndices[k] = newidx
    return negSampleWordIndices


def negSamplingLossAndGradient(centerWordVec, outsideWordIdx, outsideVectors, K=10):
    """Negative sampling loss function for word2vec models

    The same word may be sampled several times; it counts each time.
    """
    negSampleWordIndices = getNegativeSamples(outsideWordIdx, len(outsideVectors), K)

    gradCenterVec = np.zeros(centerWordVec.shape)
    gradOutsideVecs = np.zeros(outsideVectors.shape)

    u_o = outsideVectors[outsideWordIdx]
    s = sigmoid(u_o.dot(centerWordVec))
    loss = -np.log(s)
    gradCenterVec += (s - 1) * u_o
    gradOutsideVecs[outsideWordIdx] += (s - 1) * centerWordVec

    for k in negSampleWordIndices:
        u_k = outsideVectors[k]
        s = sigmoid(-u_k.dot(centerWordVec))
        loss -= np.log(s)
        gradCenterVec += (1 - s) * u_k
        gradOutsideVecs[k] += (1 - s) * centerWordVec

    return loss, gradCenterVec, gradOutsideVecs


def negSamplingVectorized(v, pos, neg, U):
    """
    v -- center vector (d,); pos -- int; neg -- int array (K,); U -- (V, d)
    Returns loss, grad of v, grad of U
    """
    idx = np.concatenate([[pos], neg])
    sign = np.ones(len(idx))
    sign[0] = -1
    z = sign * (U[idx] @ v)
    loss = np.sum(np.logaddexp(0, z))
    c = sign * sigmoid(z)
    grad_v = c @ U[idx]
    grad_U = np.zeros_like(U)
    grad_U[idx] += c[:, None] * v
    return loss, grad_v, grad_U


def skipgram(
    currentCenterWord,
    outsideWords,
    word2Ind,
    centerWordVectors,
    outsideVectors,
    word2vecLossAndGradient=naiveSoftmaxLossAndGradient,
):
    """Skip-gram model

    currentCenterWord -- a string
    outsideWords -- list of strings
    word2Ind -- dictionary from words to rows
    """
    loss = 0.0
    gradCenterVecs = np.zeros(centerWordVectors.shape)
    gradOutsideVectors = np.zeros(outsideVectors.shape)
    c = word2Ind[currentCenterWord]
    for w in outsideWords:
        l, gc, go = word2vecLossAndGradient(centerWordVectors[c], word2Ind[w], outsideVectors)
        loss += l
        gradCenterVecs[c] += gc
        gradOutsideVectors += go
    return loss, gradCenterVecs, gradOutsideVectors


def cbow(context, target, W_in, W_out):
    """
    context -- int array (C,); target -- int; W_in (V, d), W_out (V, d)
    """
    h = W_in[context].mean(axis=0)
    p = softmax(W_out @ h)
    loss = -np.log(p[target])
    e = p.copy()
    e[target] -= 1
    dW_out = np.outer(e, h)
    dW_in = np.zeros_like(W_in)
    np.add.at(dW_in, context, W_out.T @ e)
    return loss, dW_in, dW_out
