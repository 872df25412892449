from darkbn.signature import Array

def activate(x: Array, out: Array, scale_x_y: float, threads: int) -> None: ...
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
    uc_normalizer: float,
    obj_normalizer: float,
    cls_normalizer: float,
    max_delta: float,
    label_smooth_eps: float,
    objectness_smooth: int,
    point: int,
    threads: int,
) -> None: ...
