from darkbn.signature import Array

def forward_train(
    x: Array,
    out: Array,
    mean: Array,
    variance: Array,
    rolling_mean: Array,
    rolling_variance: Array,
    scales: Array,
    biases: Array,
    rolling_decay: float,
    ddof: int,
    rolling_ddof: int,
    epsilon: float,
    epsilon_outside: int,
    activation: int,
    threads: int,
) -> None: ...
def forward(
    x: Array,
    out: Array,
    mean: Array,
    variance: Array,
    scales: Array,
    biases: Array,
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None: ...
def backward(
    x: Array,
    delta: Array,
    mean: Array,
    variance: Array,
    scales: Array,
    biases: Array,
    scale_updates: Array | None,
    bias_updates: Array | None,
    mean_delta: Array,
    variance_delta: Array,
    epsilon: float,
    epsilon_outside: int,
    gradient_epsilon: float,
    gradient_epsilon_outside: int,
    statistics_epsilon: float,
    statistics_epsilon_outside: int,
    gradient_ddof: int,
    activation: int,
    threads: int,
) -> None: ...
def mean(x: Array, mean: Array, threads: int) -> None: ...
def variance(x: Array, mean: Array, variance: Array, ddof: int, threads: int) -> None: ...
def normalize(
    x: Array, out: Array, mean: Array, variance: Array, epsilon: float, epsilon_outside: int, threads: int
) -> None: ...
def backward_scale(x_norm: Array, delta: Array, scale_updates: Array, threads: int) -> None: ...
def mean_delta(
    delta: Array, variance: Array, mean_delta: Array, epsilon: float, epsilon_outside: int, threads: int
) -> None: ...
def variance_delta(
    x: Array,
    delta: Array,
    mean: Array,
    variance: Array,
    variance_delta: Array,
    epsilon: float,
    epsilon_outside: int,
    threads: int,
) -> None: ...
def normalize_delta(
    x: Array,
    mean: Array,
    variance: Array,
    mean_delta: Array,
    variance_delta: Array,
    delta: Array,
    epsilon: float,
    epsilon_outside: int,
    ddof: int,
    threads: int,
) -> None: ...
