"""binary= and xnor= of [convolutional]: convolutions with binary weights, and with binary inputs, too (XNOR-Net,
Rastegari et al. 2016).

    binary weights   the sign of each weight times the mean size of the weights of its filter
    binary inputs    1 where positive, else -1; the padding stays 0

The weights themselves keep their values: they are what learns, what decays and what the weights file has. Gradients go
straight through the signs: weight_updates are those of the binary weights, and with xnor=1 the input gets its delta
where it lies between -1 and 1.

bin_output=1 says that only signs are read of the output. Darknet leaves the activation out then when it predicts;
here it never does, and the signs are the same for activations that keep them.

Departures from Darknet: binary=1 holds on every backend (only the GPU code has it); so does the gradient, which in the
CPU code takes the weights and inputs as they are (xnor-cpu-backward-is-not-binary); an input of 0 counts as negative in
training, too (as 1 on the GPU); the bit convolutions with which AlexeyAB's Darknet predicts take the padding for -1 and
give other results (ab-xnor-pads-with-minus-one).
"""

from __future__ import annotations

from typing import Any

from darkbn.activations import CODES
from darkbn.layers.base import Buffer, Role
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.state import NetworkState


class BinaryConvolutionalLayer(ConvolutionalLayer):
    """A convolution with binary weights. Arrays: binary_weights, shaped like weights; with xnor=1 binary_input, shaped
    like the input, and binary_delta, its gradient."""

    def _all_buffers(self) -> list[Buffer]:
        shape = (self.batch, self.c, self.h, self.w)
        found = [*super()._all_buffers(), Buffer("binary_weights", self.weight_shape, Role.SCRATCH)]
        if self.options.xnor:
            found.append(Buffer("binary_input", shape, Role.SCRATCH))
            found.append(Buffer("binary_delta", shape, Role.SCRATCH, training=True))
        return found

    def operands(self, net: NetworkState) -> tuple[Any, Any]:
        x, weights = super().operands(net)
        kernels, rows = self.backend.vector, (self.n, -1)
        kernels.binarize_rows(weights.reshape(rows), self.binary_weights.reshape(rows), net.threads)
        if self.options.xnor:
            signs = self.binary_input[: self.batch]  # of the rows of a step, in a recurrent layer
            kernels.binarize(x, signs, net.threads)
            x = signs
        return x, self.binary_weights

    def backward_input(self, weights: Any, delta: Any, net: NetworkState) -> None:
        if not self.options.xnor:
            super().backward_input(weights, delta, net)
            return
        own = self.binary_delta[: self.batch]
        own.fill(0)
        super().backward_input(weights, own, net)
        self.backend.activation.gradient(net.input.reshape(own.shape), own, CODES["hardtan"], net.threads)
        self.backend.vector.axpy(own, delta, 1.0, net.threads)
