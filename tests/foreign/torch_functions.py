import math

import torch
from torch.autograd import Function


class SwishFunction(Function):
    """Memory-efficient x * sigmoid(x)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad_output * (s * (1 + x * (1 - s)))


class LinearFunction(Function):
    @staticmethod
    def forward(ctx, input, weight, bias=None):
        ctx.save_for_backward(input, weight, bias)
        output = input.mm(weight.t())
        if bias is not None:
            output += bias.unsqueeze(0).expand_as(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        input, weight, bias = ctx.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if ctx.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if bias is not None and ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(0)
        return grad_input, grad_weight, grad_bias


class RMSNormFunction(Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        rstd = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, rstd)
        return x * rstd * weight

    @staticmethod
    def backward(ctx, grad_output):
        x, weight, rstd = ctx.saved_tensors
        g = grad_output * weight
        xhat = x * rstd
        grad_x = rstd * (g - xhat * (g * xhat).sum(-1, keepdim=True))
        grad_weight = (grad_output * xhat).flatten(0, -2).sum(0)
        return grad_x, grad_weight, None


class BinarizeSTE(Function):
    """Sign with the straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() <= 1).to(grad_output.dtype)


class GaussianLogProb(Function):
    @staticmethod
    def forward(ctx, x, mu, log_sigma):
        z = (x - mu) * torch.exp(-log_sigma)
        ctx.save_for_backward(z, log_sigma)
        return -0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi)

    @staticmethod
    def backward(ctx, g):
        z, log_sigma = ctx.saved_tensors
        gx = -g * z * torch.exp(-log_sigma)
        return gx, -gx, g * (z**2 - 1)


swish = SwishFunction.apply


class Swish(torch.nn.Module):
    def forward(self, x):
        return swish(x)
