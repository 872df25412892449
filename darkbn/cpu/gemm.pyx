"""Kernels of darkbn.reference.gemm."""

from darkbn.errors import ShapeError


cdef extern from "darkbn/gemm.h" nogil:
    Py_ssize_t darkbn_gemm_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, int threads)
    void darkbn_gemm(
        int trans_a, int trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, float alpha, const float* a,
        const float* b,
        float beta, float* c, float* workspace, int threads
    )


def gemm_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, int threads):
    return darkbn_gemm_workspace(m, n, k, threads)


def gemm(
    const float[:, ::1] a, const float[:, ::1] b, float[:, ::1] c, float[::1] workspace, int trans_a,
    int trans_b,
    float alpha, float beta, int threads
):
    cdef Py_ssize_t m = c.shape[0], n = c.shape[1], k = a.shape[0] if trans_a else a.shape[1]
    cdef Py_ssize_t left = a.shape[1] if trans_a else a.shape[0]
    cdef Py_ssize_t inner = b.shape[1] if trans_b else b.shape[0],
    right = b.shape[0] if trans_b else b.shape[1]
    if left != m or right != n or inner != k:
        raise ShapeError(f"gemm: op(a) {(left, k)} times op(b) {(inner, right)} does not give c {(m, n)}")
    cdef Py_ssize_t needed = darkbn_gemm_workspace(m, n, k, threads)
    if workspace is None or workspace.shape[0] < needed:
        raise ShapeError(f"gemm: workspace must have at least {needed} floats")
    if m > 0 and n > 0:
        with nogil:
            darkbn_gemm(
                trans_a, trans_b, m, n, k, alpha, data(a), data(b), beta, &c[0, 0], &workspace[0], threads
            )


cdef inline const float* data(const float[:, ::1] x) noexcept nogil:
    return &x[0, 0] if x.shape[0] > 0 and x.shape[1] > 0 else NULL
