from darkbn.signature import Array

def suppress(
    boxes: Array,
    starts: Array,
    keep: Array,
    threshold: float,
    kind: int,
    exponent: float,
    threads: int,
) -> None: ...
