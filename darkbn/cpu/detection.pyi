from darkbn.signature import Array

def activate(x: Array, out: Array, cells: int, classes: int, softmax: int, threads: int) -> None: ...
def loss(
    output: Array,
    truth: Array,
    choices: Array | None,
    delta: Array,
    costs: Array,
    side: int,
    n: int,
    classes: int,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    coord_scale: float,
    sqrt: int,
    rescore: int,
    forced: int,
    threads: int,
) -> None: ...
