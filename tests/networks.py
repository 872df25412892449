"""Small descriptions that several tests use."""

from __future__ import annotations

#: Two yolo heads with a route, an upsampling and a shortcut between them; 3 classes.
TWO_HEADS = """
[net]
batch=4
subdivisions=2
width=16
height=16
channels=3
learning_rate=0.01
momentum=0.9
decay=0.0005
max_batches=100

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky

[shortcut]
from=-2
activation=linear

[maxpool]
size=2
stride=2

[convolutional]
filters=16
size=1
activation=linear

[yolo]
mask=2,3
anchors=1,2, 3,4, 5,6, 7,8
classes=3
num=4

[route]
layers=-3

[upsample]
stride=2

[route]
layers=-1,-7

[convolutional]
filters=16
size=1
activation=linear

[yolo]
mask=0,1
anchors=1,2, 3,4, 5,6, 7,8
classes=3
num=4
"""

#: A classifier: convolution, pooling, dropout, connected layer, softmax; 4 classes.
CLASSIFIER = """
[net]
batch=6
width=8
height=8
channels=2
learning_rate=0.05

[convolutional]
filters=5
size=3
pad=1
activation=relu

[avgpool]

[connected]
output=7
batch_normalize=1
activation=tanh

[dropout]
probability=.25

[connected]
output=4
activation=linear

[softmax]
"""
