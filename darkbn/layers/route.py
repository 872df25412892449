"""[route]: the outputs of earlier layers, one behind the other.

    output[b] = layers[0].output[b], layers[1].output[b], ...

Images of one width and height are joined along their channels. Where widths or heights differ, the samples are
joined as flat arrays and the output has no image shape. With groups=g, each input is cut into g equal groups of
channels, and of each only group `group_id` is taken.

Departure from Darknet: `groups` and `group_id` are honoured in both dialects (pj-route-groups-ignored).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Context, Layer, LayerOptions
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class RouteOptions(LayerOptions):
    """Options of [route]."""

    layers: tuple[int, ...] = option(required=True)
    groups: int = option(1, minimum=1, hints="alexeyab")
    group_id: int = option(0, minimum=0, hints="alexeyab")
    stream: int = option(-1, only="alexeyab")
    wait_stream: int = option(-1, only="alexeyab")


class RouteLayer(Layer):
    """Joined outputs of `sources`.

    Attributes:
        sources: the layers that are joined; input_layers: their indices; input_sizes: values per sample of each.
        n: how many there are.
    """

    type = "route"
    sections = ("route",)
    options_class = RouteOptions
    options: RouteOptions
    replaces_deltas = True

    def __init__(self, options: RouteOptions, context: Context) -> None:
        if not options.layers:
            raise context.error("at least one layer is needed", key="layers")
        if options.group_id >= options.groups:
            raise context.error(f"must be 0 to {options.groups - 1} (groups={options.groups})", key="group_id")
        self.sources = [context.find_layer(index, key="layers") for index in options.layers]
        self.input_layers = [source.context.index for source in self.sources]
        self.input_sizes: list[int] = []
        self.n, self.groups, self.group_id = len(self.sources), options.groups, options.group_id
        super().__init__(options, context)

    def shape(self) -> None:
        for source in self.sources:
            self._check_groups(source)
        self.input_sizes = [source.outputs for source in self.sources]
        sizes = {(source.out_h, source.out_w) for source in self.sources}
        if len(sizes) == 1 and all(source.out_c for source in self.sources):
            height, width = sizes.pop()
            self.set_output(height, width, sum(source.out_c for source in self.sources) // self.groups)
            return
        self.out_h = self.out_w = self.out_c = 0
        self.outputs = sum(self.input_sizes) // self.groups

    def _check_groups(self, source: Layer) -> None:
        count, what = (source.out_c, "channels") if source.out_c else (source.outputs, "values")
        if count % self.groups:
            raise self.context.error(
                f"{self.groups} does not divide the {count} {what} of layer {source.context.index} [{source.type}]",
                key="groups",
            )

    @property
    def gradient_sources(self) -> Sequence[Layer]:
        return self.sources

    def forward(self, net: NetworkState) -> None:
        forward_route_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_route_layer(self, net)

    def describe(self) -> tuple[str, str]:
        part = f" {self.group_id + 1}/{self.groups}" if self.groups > 1 else ""
        return "", " ".join(str(index) for index in self.input_layers) + part


def make_route_layer(
    batch: int, layers: Sequence[Layer], indexes: Sequence[int], groups: int = 1, group_id: int = 0, **context: Any
) -> RouteLayer:
    """A route layer outside a network, ready to train.

    Args:
        batch: samples.
        layers: layers with their arrays allocated.
        indexes: which of `layers` are joined; negative ones count from the end.
        groups, group_id: see the module.
        context: further fields of `Context` (backend, dialect).
    """
    options = RouteOptions(layers=tuple(indexes), groups=groups, group_id=group_id)
    l = RouteLayer(options, Context(batch=batch, layers=layers, index=len(layers), **context))
    l.allocate(training=True)
    return l


def _parts(l: RouteLayer) -> Iterator[tuple[Layer, tuple[int, int, int]]]:
    """Each source with where its part starts in it and in the output, and how many values a sample has of it."""
    start = 0
    for source in l.sources:
        count = source.outputs // l.groups
        yield source, (count * l.group_id, start, count)
        start += count


def forward_route_layer(l: RouteLayer, net: NetworkState) -> None:
    """output = the sources' outputs, one behind the other."""
    out = l.output.reshape(l.batch, l.outputs)
    for source, (source_start, start, count) in _parts(l):
        values = source.output.reshape(l.batch, source.outputs)
        l.backend.spatial.copy_block(values, out, source_start, start, count, net.threads)


def backward_route_layer(l: RouteLayer, net: NetworkState) -> None:
    """Adds each part of delta to the delta of its source."""
    delta = l.delta.reshape(l.batch, l.outputs)
    for source, (source_start, start, count) in _parts(l):
        spatial, source_delta = l.backend.spatial, source.delta.reshape(l.batch, source.outputs)
        if l.groups > 1:  # of this source's delta, only a part is written
            net.clear(source.delta, l.backend)
        put = spatial.copy_block if net.replaces(source.delta) else spatial.add_block
        put(delta, source_delta, start, source_start, count, net.threads)


def resize_route_layer(l: RouteLayer, w: int, h: int) -> None:
    """Take the sources' new sizes; w x h is the size of the layer before, which does not count."""
    l.resize(w, h)
