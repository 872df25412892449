from darkbn.signature import Array

def activate(x: Array, out: Array, scale_x_y: float, new_coords: int, threads: int) -> None: ...
def candidates(output: Array, places: Array, counts: Array, threshold: float, threads: int) -> None: ...
def decode(
    output: Array,
    places: Array,
    anchors: Array,
    rows: Array,
    image: int,
    net_w: float,
    net_h: float,
    threshold: float,
    new_coords: int,
    threads: int,
) -> None: ...
def loss(
    output: Array,
    truth: Array,
    anchors: Array,
    mask: Array,
    class_weights: Array | None,
    delta: Array,
    squares: Array,
    statistics: Array,
    net_w: float,
    net_h: float,
    ignore_thresh: float,
    truth_thresh: float,
    iou_thresh: float,
    iou_thresh_kind: int,
    iou_loss: int,
    iou_normalizer: float,
    obj_normalizer: float,
    cls_normalizer: float,
    max_delta: float,
    label_smooth_eps: float,
    objectness_smooth: int,
    focal_loss: int,
    new_coords: int,
    alexeyab: int,
    threads: int,
) -> None: ...
