"""A layer with something behind it, under the layer's name."""

from __future__ import annotations

from typing import Any

from darkbn.layers.base import Buffer, Context, Layer
from darkbn.state import NetworkState, UpdateArgs


class WrappedLayer(Layer):
    """A layer, its host, and what an option puts behind it. Arrays and sizes of the host are attributes of it, too.

    Attributes:
        host: the layer itself.
    """

    sections = ()

    def __init__(self, options: Any, context: Context, host: Layer) -> None:
        self.host = host
        super().__init__(options, context)

    def __getattr__(self, name: str) -> Any:
        host = self.__dict__.get("host")
        return super().__getattr__(name) if host is None or name.startswith("__") else getattr(host, name)

    @property
    def sublayers(self) -> dict[str, Layer]:
        return {"host": self.host}

    def buffers(self) -> list[Buffer]:
        return []

    def untrainable(self) -> list[str]:
        return self.host.untrainable()

    def forward(self, net: NetworkState) -> None:
        self.host.forward(net)

    def backward(self, net: NetworkState) -> None:
        self.host.backward(net)

    def update(self, args: UpdateArgs) -> None:
        self.host.update(args)

    @property
    def flops(self) -> int:
        return self.host.flops

    def describe(self) -> tuple[str, str]:
        return self.host.describe()
