from darkbn.signature import Array

def sgd(weights: Array, updates: Array, rate: float, momentum: float, decay: float, threads: int) -> None: ...
def adam(
    weights: Array,
    updates: Array,
    m: Array,
    v: Array,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
    t: int,
    threads: int,
) -> None: ...
def average(values: Array, averages: Array, alpha: float, threads: int) -> None: ...
def nonfinite(values: Array, count: Array, threads: int) -> None: ...
