from darkbn.signature import Array

def lrn(
    x: Array, norms: Array | None, out: Array, size: int, alpha: float, beta: float, kappa: float, threads: int
) -> None: ...
def lrn_backward_workspace(c: int, threads: int) -> int: ...
def lrn_backward(
    x: Array,
    norms: Array,
    delta: Array,
    input_delta: Array,
    workspace: Array,
    size: int,
    alpha: float,
    beta: float,
    threads: int,
) -> None: ...
def l2norm(x: Array, out: Array, threads: int) -> None: ...
def l2norm_backward(x: Array, delta: Array, input_delta: Array, threads: int) -> None: ...
