"""All section types. A new layer is one file and its class in LAYERS."""

from __future__ import annotations

from darkbn.layers.activation import ActivationLayer
from darkbn.layers.avgpool import AvgpoolLayer
from darkbn.layers.base import Layer
from darkbn.layers.batchnorm import BatchnormLayer
from darkbn.layers.connected import ConnectedLayer
from darkbn.layers.contrastive import ContrastiveLayer
from darkbn.layers.conv_lstm import ConvLstmLayer
from darkbn.layers.convolutional import ConvolutionalLayer
from darkbn.layers.cost import CostLayer
from darkbn.layers.crnn import CrnnLayer
from darkbn.layers.crop import CropLayer
from darkbn.layers.deconvolutional import DeconvolutionalLayer
from darkbn.layers.detection import DetectionLayer
from darkbn.layers.dropout import DropoutLayer
from darkbn.layers.empty import EmptyLayer
from darkbn.layers.gaussian_yolo import GaussianYoloLayer
from darkbn.layers.gru import GruLayer
from darkbn.layers.history import HistoryLayer
from darkbn.layers.implicit import ImplicitLayer
from darkbn.layers.iseg import IsegLayer
from darkbn.layers.l2norm import L2normLayer
from darkbn.layers.local import LocalLayer
from darkbn.layers.local_avgpool import LocalAvgpoolLayer
from darkbn.layers.logistic import LogisticLayer
from darkbn.layers.lstm import LstmLayer
from darkbn.layers.maxpool import MaxpoolLayer
from darkbn.layers.normalization import NormalizationLayer
from darkbn.layers.region import RegionLayer
from darkbn.layers.reorg import ReorgLayer
from darkbn.layers.reorg3d import Reorg3dLayer
from darkbn.layers.rnn import RnnLayer
from darkbn.layers.route import RouteLayer
from darkbn.layers.sam import SamLayer
from darkbn.layers.scale_channels import ScaleChannelsLayer
from darkbn.layers.shortcut import ShortcutLayer
from darkbn.layers.softmax import SoftmaxLayer
from darkbn.layers.upsample import UpsampleLayer
from darkbn.layers.yolo import YoloLayer

LAYERS: tuple[type[Layer], ...] = (
    ConvolutionalLayer,
    ConnectedLayer,
    BatchnormLayer,
    ActivationLayer,
    DropoutLayer,
    SoftmaxLayer,
    CostLayer,
    MaxpoolLayer,
    AvgpoolLayer,
    RouteLayer,
    ShortcutLayer,
    UpsampleLayer,
    ReorgLayer,
    DeconvolutionalLayer,
    LocalLayer,
    NormalizationLayer,
    L2normLayer,
    CropLayer,
    ScaleChannelsLayer,
    SamLayer,
    Reorg3dLayer,
    LocalAvgpoolLayer,
    ImplicitLayer,
    EmptyLayer,
    DetectionLayer,
    IsegLayer,
    LogisticLayer,
    YoloLayer,
    RegionLayer,
    GaussianYoloLayer,
    ContrastiveLayer,
    RnnLayer,
    GruLayer,
    LstmLayer,
    CrnnLayer,
    ConvLstmLayer,
    HistoryLayer,
)

#: Section name (aliases included) to class.
BY_SECTION: dict[str, type[Layer]] = {name: layer for layer in LAYERS for name in layer.sections}
