from darkbn.signature import Array

def gemm_workspace(m: int, n: int, k: int, threads: int) -> int: ...
def gemm(
    a: Array,
    b: Array,
    c: Array,
    workspace: Array | None,
    trans_a: int,
    trans_b: int,
    alpha: float,
    beta: float,
    threads: int,
) -> None: ...
