"""Arrays of any shape as one row."""


cdef inline float[::1] flat(x):
    """All values of a C-contiguous array, sharing its memory."""
    if not x.flags.c_contiguous:
        raise ValueError("the array must be C-contiguous")
    return x.reshape(-1)


cdef inline const float[::1] flat_const(x):
    """The same of an array that is only read."""
    if not x.flags.c_contiguous:
        raise ValueError("the array must be C-contiguous")
    return x.reshape(-1)
