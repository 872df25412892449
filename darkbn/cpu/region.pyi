from darkbn.signature import Array

def forward(x: Array, out: Array, groups: Array | None, background: int, softmax: int, threads: int) -> None: ...
def forward_cells(x: Array, out: Array, groups: Array | None, softmax: int, threads: int) -> None: ...
def decode(
    output: Array, anchors: Array, rows: Array, image: int, threshold: float, background: int, threads: int
) -> None: ...
def decode_cells(
    output: Array, anchors: Array, rows: Array, image: int, threshold: float, sure: int, threads: int
) -> None: ...
def loss(
    output: Array,
    truth: Array,
    anchors: Array,
    tree: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
    thresh: float,
    coord_scale: float,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    bias_match: int,
    rescore: int,
    background: int,
    keep_classes: int,
    early: int,
    threads: int,
) -> None: ...
def loss_cells(
    output: Array,
    truth: Array,
    anchors: Array,
    tree: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
    thresh: float,
    coord_scale: float,
    object_scale: float,
    noobject_scale: float,
    class_scale: float,
    bias_match: int,
    rescore: int,
    classfix: int,
    focal_loss: int,
    early: int,
    threads: int,
) -> None: ...
