"""Kernels of darkbn.reference.batchnorm.

A channel belongs to one thread: it is read for its sums and then, mostly still in the cache, read and written. Where
images are small (after connected layers they are one value), the columns of a (batch, channels * spatial) matrix are
worked through instead, in tiles of whole channels.
"""

from cython.parallel cimport prange


cdef extern from "darkbn/batchnorm.h" nogil:
    enum:
        DARKBN_COLUMNS
    ctypedef struct darkbn_moments:
        double count, mean, squares
    ctypedef struct darkbn_products:
        double delta, product
    darkbn_moments darkbn_join(darkbn_moments a, darkbn_moments b)
    darkbn_moments darkbn_plane_moments(const float* x, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial)
    void darkbn_tile_moments(
        const float* x, Py_ssize_t batch, Py_ssize_t step, int columns, darkbn_moments* moments)
    void darkbn_affine_row(const float* x, float* out, Py_ssize_t n, float center, float scale, float offset)
    void darkbn_affine_columns(
        const float* x, float* out, int n, const float* center, const float* scale, const float* offset)
    darkbn_products darkbn_plane_products(
        const float* x, const float* delta, float center, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial)
    void darkbn_tile_products(
        const float* x, const float* delta, const float* center, Py_ssize_t batch, Py_ssize_t step, int columns,
        darkbn_products* products)
    void darkbn_gradient_row(
        const float* x, float* delta, Py_ssize_t n, float center, float scale, float slope, float offset)
    void darkbn_gradient_columns(
        const float* x, float* delta, int n, const float* center, const float* scale, const float* slope,
        const float* offset)
    double darkbn_inverse_root(double variance, double epsilon, bint outside)
    double darkbn_inverse_root_slope(double variance, double epsilon, bint outside)


cdef extern from "darkbn/reduce.h" nogil:
    double darkbn_sum(const float* x, Py_ssize_t n)


# Images up to this size are worked through by columns; fewer values than PARALLEL are not worth a second thread.
cdef enum:
    SMALL = 16
    PARALLEL = 16384


cdef struct Shape:
    Py_ssize_t batch, channels, spatial, step, tile, tiles
    double size


cdef inline Shape shape_of(const float[:, :, ::1] x) noexcept nogil:
    cdef Shape s
    s.batch, s.channels, s.spatial = x.shape[0], x.shape[1], x.shape[2]
    s.step = s.channels * s.spatial
    s.size = <double>s.batch * s.spatial
    s.tile = DARKBN_COLUMNS // s.spatial if 0 < s.spatial <= SMALL else 0  # channels of a tile
    s.tiles = (s.channels + s.tile - 1) // s.tile if s.tile else 0
    return s


# ------------------------------------------------------------------------------------------------------ forward

# What a training pass needs besides x and out.
cdef struct Training:
    float *mean
    float *variance
    float *rolling_mean
    float *rolling_variance
    const float *scales
    const float *biases
    double decay, ddof, rolling_ddof, epsilon
    bint outside


# (x - center) * scale + offset
cdef struct Affine:
    float center, scale, offset


cdef inline Affine train_channel(Training* t, Py_ssize_t channel, darkbn_moments m) noexcept nogil:
    """Statistics of a channel, stored and rolled; returns how to normalize it."""
    cdef Affine affine
    cdef double variance = m.squares / (m.count - t.ddof)
    cdef double scale = t.scales[channel] * darkbn_inverse_root(variance, t.epsilon, t.outside)
    t.mean[channel] = <float>m.mean
    t.variance[channel] = <float>variance
    t.rolling_mean[channel] = <float>(t.decay * t.rolling_mean[channel] + (1 - t.decay) * m.mean)
    t.rolling_variance[channel] = <float>(
        t.decay * t.rolling_variance[channel] + (1 - t.decay) * m.squares / (m.count - t.rolling_ddof))
    affine.center = <float>m.mean
    affine.scale = <float>scale
    # What rounding took from the mean matters where the mean is large and the variance small.
    affine.offset = <float>(t.biases[channel] - (m.mean - affine.center) * scale)
    return affine


cdef void apply_plane(const float* x, float* out, Shape s, Affine a) noexcept nogil:
    cdef Py_ssize_t b
    for b in range(s.batch):
        darkbn_affine_row(x + b * s.step, out + b * s.step, s.spatial, a.center, a.scale, a.offset)


cdef void apply_tile(const float* x, float* out, Shape s, Py_ssize_t channels, const Affine* affine) noexcept nogil:
    cdef float center[DARKBN_COLUMNS]
    cdef float scale[DARKBN_COLUMNS]
    cdef float offset[DARKBN_COLUMNS]
    cdef Py_ssize_t c, i, b
    for c in range(channels):
        for i in range(c * s.spatial, (c + 1) * s.spatial):
            center[i], scale[i], offset[i] = affine[c].center, affine[c].scale, affine[c].offset
    for b in range(s.batch):
        darkbn_affine_columns(
            x + b * s.step, out + b * s.step, <int>(channels * s.spatial), center, scale, offset)


cdef void train_tile(const float* x, float* out, Shape s, Py_ssize_t first, Training* t) noexcept nogil:
    cdef darkbn_moments moments[DARKBN_COLUMNS]
    cdef Affine affine[DARKBN_COLUMNS]
    cdef Py_ssize_t channels = min(s.tile, s.channels - first), c, i
    cdef Py_ssize_t offset = first * s.spatial
    cdef darkbn_moments channel
    darkbn_tile_moments(x + offset, s.batch, s.step, <int>(channels * s.spatial), moments)
    for c in range(channels):
        channel = moments[c * s.spatial]
        for i in range(c * s.spatial + 1, (c + 1) * s.spatial):
            channel = darkbn_join(channel, moments[i])
        affine[c] = train_channel(t, first + c, channel)
    apply_tile(x + offset, out + offset, s, channels, affine)


def forward_train(
        const float[:, :, ::1] x, float[:, :, ::1] out, float[::1] mean, float[::1] variance,
        float[::1] rolling_mean, float[::1] rolling_variance, const float[::1] scales, const float[::1] biases,
        double rolling_decay, int ddof, int rolling_ddof, double epsilon, bint epsilon_outside, int threads):
    cdef Shape s = shape_of(x)
    cdef Training t
    cdef Py_ssize_t i
    if s.batch == 0 or s.channels == 0 or s.spatial == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    t.mean, t.variance = &mean[0], &variance[0]
    t.rolling_mean, t.rolling_variance = &rolling_mean[0], &rolling_variance[0]
    t.scales, t.biases = &scales[0], &biases[0]
    t.decay, t.ddof, t.rolling_ddof = rolling_decay, ddof, rolling_ddof
    t.epsilon, t.outside = epsilon, epsilon_outside
    cdef bint parallel = s.batch * s.step > PARALLEL
    if s.tile:
        for i in prange(s.tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            train_tile(source, target, s, i * s.tile, &t)
    else:
        for i in prange(s.channels, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            apply_plane(
                source + i * s.spatial, target + i * s.spatial, s,
                train_channel(&t, i, darkbn_plane_moments(source + i * s.spatial, s.batch, s.step, s.spatial)))


# What a pass with given statistics needs besides x and out; scales and biases may be NULL (1 and 0).
cdef struct Statistics:
    const float *mean
    const float *variance
    const float *scales
    const float *biases
    double epsilon
    bint outside


cdef inline Affine statistics_channel(Statistics* t, Py_ssize_t channel) noexcept nogil:
    cdef Affine affine
    cdef double inverse = darkbn_inverse_root(t.variance[channel], t.epsilon, t.outside)
    affine.center = t.mean[channel]
    affine.scale = <float>(inverse * t.scales[channel] if t.scales else inverse)
    affine.offset = t.biases[channel] if t.biases else 0
    return affine


cdef void statistics_tile(const float* x, float* out, Shape s, Py_ssize_t first, Statistics* t) noexcept nogil:
    cdef Affine affine[DARKBN_COLUMNS]
    cdef Py_ssize_t channels = min(s.tile, s.channels - first), c
    for c in range(channels):
        affine[c] = statistics_channel(t, first + c)
    apply_tile(x + first * s.spatial, out + first * s.spatial, s, channels, affine)


cdef void statistics_plane(const float* x, float* out, Shape s, Py_ssize_t plane, Statistics* t) noexcept nogil:
    cdef Affine a = statistics_channel(t, plane % s.channels)
    darkbn_affine_row(
        x + plane * s.spatial, out + plane * s.spatial, s.spatial, a.center, a.scale, a.offset)


cdef apply_statistics(const float[:, :, ::1] x, float[:, :, ::1] out, Statistics* t, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t i
    cdef bint parallel = s.batch * s.step > PARALLEL
    if s.batch == 0 or s.step == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    if s.tile:
        for i in prange(s.tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            statistics_tile(source, target, s, i * s.tile, t)
    else:
        for i in prange(
                s.batch * s.channels, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            statistics_plane(source, target, s, i, t)


def forward(
        const float[:, :, ::1] x, float[:, :, ::1] out, const float[::1] mean, const float[::1] variance,
        const float[::1] scales, const float[::1] biases, double epsilon, bint epsilon_outside, int threads):
    if x.shape[1] == 0:
        return
    cdef Statistics t = Statistics(&mean[0], &variance[0], &scales[0], &biases[0], epsilon, epsilon_outside)
    apply_statistics(x, out, &t, threads)


def normalize(
        const float[:, :, ::1] x, float[:, :, ::1] out, const float[::1] mean, const float[::1] variance,
        double epsilon, bint epsilon_outside, int threads):
    if x.shape[1] == 0:
        return
    cdef Statistics t = Statistics(&mean[0], &variance[0], NULL, NULL, epsilon, epsilon_outside)
    apply_statistics(x, out, &t, threads)


# ----------------------------------------------------------------------------------------------------- backward

# What the backward pass needs besides x and delta; the updates may be NULL.
cdef struct Backward:
    const float *mean
    const float *variance
    const float *scales
    float *scale_updates
    float *bias_updates
    float *mean_delta
    float *variance_delta
    double epsilon, gradient_epsilon, statistics_epsilon
    bint outside, gradient_outside, statistics_outside
    double size, gradient_ddof


# delta * scale + (x - center) * slope + offset
cdef struct Gradient:
    float center, scale, slope, offset


cdef inline Gradient backward_channel(Backward* t, Py_ssize_t channel, darkbn_products sums) noexcept nogil:
    """Updates of a channel from the sums of delta; returns how delta changes."""
    cdef Gradient gradient
    cdef double variance = t.variance[channel], scale = t.scales[channel]
    cdef double mean_delta = -scale * sums.delta * darkbn_inverse_root(
        variance, t.statistics_epsilon, t.statistics_outside)
    cdef double variance_delta = scale * sums.product * darkbn_inverse_root_slope(
        variance, t.statistics_epsilon, t.statistics_outside)
    if t.bias_updates:
        t.bias_updates[channel] += <float>sums.delta
    if t.scale_updates:
        t.scale_updates[channel] += <float>(sums.product * darkbn_inverse_root(variance, t.epsilon, t.outside))
    t.mean_delta[channel] = <float>mean_delta
    t.variance_delta[channel] = <float>variance_delta
    gradient.center = t.mean[channel]
    gradient.scale = <float>(scale * darkbn_inverse_root(variance, t.gradient_epsilon, t.gradient_outside))
    gradient.slope = <float>(variance_delta * 2 / (t.size - t.gradient_ddof))
    gradient.offset = <float>(mean_delta / t.size)
    return gradient


cdef void gradient_plane(const float* x, float* delta, Shape s, Gradient g) noexcept nogil:
    cdef Py_ssize_t b
    for b in range(s.batch):
        darkbn_gradient_row(x + b * s.step, delta + b * s.step, s.spatial, g.center, g.scale, g.slope, g.offset)


cdef void gradient_tile(
        const float* x, float* delta, Shape s, Py_ssize_t channels, const Gradient* gradient) noexcept nogil:
    cdef float center[DARKBN_COLUMNS]
    cdef float scale[DARKBN_COLUMNS]
    cdef float slope[DARKBN_COLUMNS]
    cdef float offset[DARKBN_COLUMNS]
    cdef Py_ssize_t c, i, b
    for c in range(channels):
        for i in range(c * s.spatial, (c + 1) * s.spatial):
            center[i], scale[i] = gradient[c].center, gradient[c].scale
            slope[i], offset[i] = gradient[c].slope, gradient[c].offset
    for b in range(s.batch):
        darkbn_gradient_columns(
            x + b * s.step, delta + b * s.step, <int>(channels * s.spatial), center, scale, slope, offset)


cdef void backward_tile(const float* x, float* delta, Shape s, Py_ssize_t first, Backward* t) noexcept nogil:
    cdef darkbn_products products[DARKBN_COLUMNS]
    cdef float center[DARKBN_COLUMNS]
    cdef Gradient gradient[DARKBN_COLUMNS]
    cdef Py_ssize_t channels = min(s.tile, s.channels - first), c, i, offset = first * s.spatial
    cdef darkbn_products channel
    for c in range(channels):
        for i in range(c * s.spatial, (c + 1) * s.spatial):
            center[i] = t.mean[first + c]
    darkbn_tile_products(
        x + offset, delta + offset, center, s.batch, s.step, <int>(channels * s.spatial), products)
    for c in range(channels):
        channel.delta = channel.product = 0
        for i in range(c * s.spatial, (c + 1) * s.spatial):
            channel.delta += products[i].delta
            channel.product += products[i].product
        gradient[c] = backward_channel(t, first + c, channel)
    gradient_tile(x + offset, delta + offset, s, channels, gradient)


def backward(
        const float[:, :, ::1] x, float[:, :, ::1] delta, const float[::1] mean, const float[::1] variance,
        const float[::1] scales, float[::1] scale_updates, float[::1] bias_updates, float[::1] mean_delta,
        float[::1] variance_delta, double epsilon, bint epsilon_outside, double gradient_epsilon,
        bint gradient_epsilon_outside, double statistics_epsilon, bint statistics_epsilon_outside,
        int gradient_ddof, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t i
    if s.batch == 0 or s.step == 0:
        return
    cdef Backward t = Backward(
        mean=&mean[0], variance=&variance[0], scales=&scales[0],
        scale_updates=NULL, bias_updates=NULL,
        mean_delta=&mean_delta[0], variance_delta=&variance_delta[0],
        epsilon=epsilon, gradient_epsilon=gradient_epsilon, statistics_epsilon=statistics_epsilon,
        outside=epsilon_outside, gradient_outside=gradient_epsilon_outside,
        statistics_outside=statistics_epsilon_outside, size=s.size, gradient_ddof=gradient_ddof)
    if scale_updates is not None:
        t.scale_updates = &scale_updates[0]
    if bias_updates is not None:
        t.bias_updates = &bias_updates[0]
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &delta[0, 0, 0]
    cdef bint parallel = s.batch * s.step > PARALLEL
    if s.tile:
        for i in prange(s.tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            backward_tile(source, target, s, i * s.tile, &t)
    else:
        for i in prange(s.channels, nogil=True, num_threads=threads, schedule="static", use_threads_if=parallel):
            gradient_plane(source + i * s.spatial, target + i * s.spatial, s, backward_channel(
                &t, i, darkbn_plane_products(
                    source + i * s.spatial, target + i * s.spatial, mean[i], s.batch, s.step, s.spatial)))


# ------------------------------------------------------------------------------------------ Darknet's single steps

def mean(const float[:, :, ::1] x, float[::1] mean, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        mean[channel] = <float>darkbn_plane_moments(&x[0, 0, 0] + channel * s.spatial, s.batch, s.step, s.spatial).mean


def variance(const float[:, :, ::1] x, const float[::1] mean, float[::1] variance, int ddof, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    cdef darkbn_moments m
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        m = darkbn_plane_moments(&x[0, 0, 0] + channel * s.spatial, s.batch, s.step, s.spatial)
        variance[channel] = <float>((m.squares + s.size * (m.mean - mean[channel]) ** 2) / (s.size - ddof))


def backward_scale(const float[:, :, ::1] x_norm, const float[:, :, ::1] delta, float[::1] scale_updates, int threads):
    cdef Shape s = shape_of(delta)
    cdef Py_ssize_t channel
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        scale_updates[channel] += <float>darkbn_plane_products(
            &x_norm[0, 0, 0] + channel * s.spatial, &delta[0, 0, 0] + channel * s.spatial, 0,
            s.batch, s.step, s.spatial).product


def mean_delta(
        const float[:, :, ::1] delta, const float[::1] variance, float[::1] mean_delta, double epsilon,
        bint epsilon_outside, int threads):
    cdef Shape s = shape_of(delta)
    cdef Py_ssize_t channel, b
    cdef double total
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        total = 0
        for b in range(s.batch):
            total = total + darkbn_sum(&delta[0, 0, 0] + b * s.step + channel * s.spatial, s.spatial)
        mean_delta[channel] = <float>(-total * darkbn_inverse_root(variance[channel], epsilon, epsilon_outside))


def variance_delta(
        const float[:, :, ::1] x, const float[:, :, ::1] delta, const float[::1] mean, const float[::1] variance,
        float[::1] variance_delta, double epsilon, bint epsilon_outside, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        variance_delta[channel] = <float>(darkbn_plane_products(
            &x[0, 0, 0] + channel * s.spatial, &delta[0, 0, 0] + channel * s.spatial, mean[channel],
            s.batch, s.step, s.spatial).product
            * darkbn_inverse_root_slope(variance[channel], epsilon, epsilon_outside))


def normalize_delta(
        const float[:, :, ::1] x, const float[::1] mean, const float[::1] variance, const float[::1] mean_delta,
        const float[::1] variance_delta, float[:, :, ::1] delta, double epsilon, bint epsilon_outside, int ddof,
        int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        gradient_plane(
            &x[0, 0, 0] + channel * s.spatial, &delta[0, 0, 0] + channel * s.spatial, s,
            Gradient(
                mean[channel], <float>darkbn_inverse_root(variance[channel], epsilon, epsilon_outside),
                <float>(variance_delta[channel] * 2.0 / (s.size - ddof)), <float>(mean_delta[channel] / s.size)))
