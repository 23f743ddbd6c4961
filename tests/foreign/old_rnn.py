import cPickle as pickle
import numpy as np

# trained with python 2.7

hidden = 100

def forward(x, h, W, U, b):
    return np.tanh(np.dot(W, x) + np.dot(U, h) + b)

def backward(dh, x, h_prev, h, W, U):
    da = dh * (1 - h ** 2)
    return np.dot(W.T, da), np.dot(U.T, da), np.outer(da, x), np.outer(da, h_prev), da

def train(data, epochs=10):
    for epoch in xrange(epochs):
        print 'epoch', epoch
        for i, (x, y) in enumerate(data):
            if i % 100 == 0:
                print "  example %d of %d" % (i, len(data))

def gradcheck():
    print 'not done yet'

if __name__ == '__main__':
    train(pickle.load(open('data.pkl', 'rb')))
