from darkbn.signature import Array

def window(
    x: Array,
    places: Array,
    angles: Array | None,
    shifts: Array | None,
    out: Array,
    scale: float,
    translate: float,
    threads: int,
) -> None: ...
def window_backward(
    delta: Array, places: Array, angles: Array | None, input_delta: Array, scale: float, threads: int
) -> None: ...
def levels(x: Array, factors: Array, out: Array, threads: int) -> None: ...
def levels_backward(x: Array, factors: Array, delta: Array, input_delta: Array, threads: int) -> None: ...
