from darkbn.signature import Array

def loss_workspace(m: int, threads: int) -> int: ...
def loss(
    z: Array,
    labels: Array,
    classes: Array,
    steps: Array,
    delta: Array,
    right: Array,
    workspace: Array,
    temperature: float,
    most: int,
    detection: int,
    threads: int,
) -> None: ...
