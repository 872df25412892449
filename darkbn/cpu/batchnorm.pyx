"""Kernels of darkbn.reference.batchnorm.

A channel is read for its sums and then, mostly still in the cache, read and written, while the next one is read for
its sums. Channels are shared out among the threads; where they are large or few, all threads work on the pieces of one
channel after the other. Where images are
small (after connected layers they are one value), the columns of a (batch, channels * spatial) matrix are worked
through instead, in tiles of whole channels.
"""

from cython.parallel cimport prange


cdef extern from "darkbn/batchnorm.h" nogil:
    enum:
        DARKBN_COLUMNS, DARKBN_MAX_PIECES, DARKBN_STREAM_FROM
    ctypedef struct darkbn_moments:
        double count, mean, squares
    ctypedef struct darkbn_sums:
        double first, second
    ctypedef struct darkbn_piece:
        Py_ssize_t row, rows, column, columns
    darkbn_moments darkbn_join(darkbn_moments a, darkbn_moments b)
    darkbn_moments darkbn_shifted_moments(darkbn_sums sums, double count, double shift)
    bint darkbn_is_far(darkbn_moments m, float shift)
    enum:
        DARKBN_AFFINE, DARKBN_AFFINE_STREAM, DARKBN_GRADIENT
    ctypedef struct darkbn_gate:
        float scale, offset, below
        int kind
    ctypedef struct darkbn_work:
        int kind
        const float *x
        float *out
        float center, scale, slope, offset
        darkbn_gate gate
    float darkbn_guess(const float* x, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial)
    int darkbn_pieces(Py_ssize_t batch, Py_ssize_t spatial)
    darkbn_piece darkbn_piece_of(Py_ssize_t batch, Py_ssize_t spatial, int pieces, Py_ssize_t index)
    darkbn_sums darkbn_add_sums(const darkbn_sums* sums, int n)
    void darkbn_piece_work(const darkbn_work* work, Py_ssize_t step, darkbn_piece p)
    darkbn_sums darkbn_piece_sums(
        const float* x, float* delta, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial, float shift,
        const darkbn_gate* gate, const darkbn_work* work, int pieces, Py_ssize_t index)
    darkbn_sums darkbn_plane_sums(
        const float* x, float* delta, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial, float shift,
        const darkbn_gate* gate, const darkbn_work* work)
    darkbn_moments darkbn_plane_moments(
        const float* x, Py_ssize_t batch, Py_ssize_t step, Py_ssize_t spatial, const darkbn_work* work)
    void darkbn_tile_moments(
        const float* x, Py_ssize_t batch, Py_ssize_t step, int columns, darkbn_moments* moments)
    void darkbn_tile_products(
        const float* x, const float* delta, const float* center, Py_ssize_t batch, Py_ssize_t step, int columns,
        darkbn_sums* products)
    void darkbn_affine_columns(
        const float* x, float* out, int n, const float* center, const float* scale, const float* offset)
    void darkbn_gradient_columns(
        const float* x, float* delta, int n, const float* center, const float* scale, const float* slope,
        const float* offset)
    void darkbn_columns_backward(
        const float* x, float* delta, int n, const float* center, const float* scale, const float* offset, int kind)
    double darkbn_inverse_root(double variance, double epsilon, bint outside)
    double darkbn_inverse_root_slope(double variance, double epsilon, bint outside)


cdef extern from "darkbn/activation_kinds.h" nogil:
    enum:
        DARKBN_LINEAR
    bint darkbn_is_two_lines(long long kind)
    float darkbn_slope_below(long long kind)


cdef extern from "darkbn/activation_rows.h" nogil:
    void darkbn_activate(const float* x, float* out, Py_ssize_t n, int kind)


cdef extern from "darkbn/reduce.h" nogil:
    double darkbn_sum(const float* x, Py_ssize_t n)


# Images up to this size are worked through by columns; fewer values than PARALLEL are not worth a second thread.
# All threads work on one channel when there are fewer than FEW of them per thread, or from LARGE values on. Rows
# shorter than LONG are not written past the caches: too much of them are incomplete cache lines.
cdef enum:
    SMALL = 16
    PARALLEL = 16384
    FEW = 4
    LARGE = 1048576
    LONG = 512


cdef struct Shape:
    Py_ssize_t batch, channels, spatial, step, tile, tiles
    int pieces
    double size
    bint parallel


cdef inline Shape shape_of(const float[:, :, ::1] x) noexcept nogil:
    cdef Shape s
    s.batch, s.channels, s.spatial = x.shape[0], x.shape[1], x.shape[2]
    s.step = s.channels * s.spatial
    s.size = <double>s.batch * s.spatial
    s.tile = DARKBN_COLUMNS // s.spatial if 0 < s.spatial <= SMALL else 0  # channels of a tile
    s.tiles = (s.channels + s.tile - 1) // s.tile if s.tile else 0
    s.pieces = darkbn_pieces(s.batch, s.spatial) if s.batch else 0
    s.parallel = s.batch * s.step > PARALLEL
    return s


cdef inline darkbn_gate gate_of(int activation) noexcept nogil:
    """How an activation is computed with the normalization: as two lines, or after it."""
    if darkbn_is_two_lines(activation):
        return darkbn_gate(0, 0, darkbn_slope_below(activation), DARKBN_LINEAR)
    return darkbn_gate(0, 0, 1, activation)


cdef inline int affine_kind(Shape s, const float* x, const float* out) noexcept nogil:
    """Whether `out` is written past the caches: it would not stay in them, and is not in them as `x`."""
    if s.batch * s.step >= DARKBN_STREAM_FROM and s.spatial >= LONG and x != out:
        return DARKBN_AFFINE_STREAM
    return DARKBN_AFFINE


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
    int activation


cdef inline darkbn_work train_channel(Training* t, Py_ssize_t channel, darkbn_moments m) noexcept nogil:
    """Statistics of a channel, stored and rolled; returns how to normalize it, without arrays."""
    cdef darkbn_work affine = darkbn_work(DARKBN_AFFINE, NULL, NULL, 0, 0, 0, 0, gate_of(t.activation))
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


cdef void apply_tile(
        const float* x, float* out, Shape s, Py_ssize_t channels, const darkbn_work* affine, int activation
) noexcept nogil:
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
        if activation != DARKBN_LINEAR:
            darkbn_activate(out + b * s.step, out + b * s.step, channels * s.spatial, activation)


cdef void train_tile(const float* x, float* out, Shape s, Py_ssize_t first, Training* t) noexcept nogil:
    cdef darkbn_moments moments[DARKBN_COLUMNS]
    cdef darkbn_work affine[DARKBN_COLUMNS]
    cdef Py_ssize_t channels = min(s.tile, s.channels - first), c, i
    cdef Py_ssize_t offset = first * s.spatial
    cdef darkbn_moments channel
    darkbn_tile_moments(x + offset, s.batch, s.step, <int>(channels * s.spatial), moments)
    for c in range(channels):
        channel = moments[c * s.spatial]
        for i in range(c * s.spatial + 1, (c + 1) * s.spatial):
            channel = darkbn_join(channel, moments[i])
        affine[c] = train_channel(t, first + c, channel)
    apply_tile(x + offset, out + offset, s, channels, affine, t.activation)


# What a pass with given statistics needs besides x and out; scales and biases may be NULL (1 and 0).
cdef struct Statistics:
    const float *mean
    const float *variance
    const float *scales
    const float *biases
    double epsilon
    bint outside


cdef inline darkbn_work statistics_channel(Statistics* t, Py_ssize_t channel) noexcept nogil:
    """How to normalize a channel, without arrays."""
    cdef darkbn_work affine = darkbn_work(DARKBN_AFFINE, NULL, NULL, 0, 0, 0, 0, gate_of(DARKBN_LINEAR))
    cdef double inverse = darkbn_inverse_root(t.variance[channel], t.epsilon, t.outside)
    affine.center = t.mean[channel]
    affine.scale = <float>(inverse * t.scales[channel] if t.scales else inverse)
    affine.offset = t.biases[channel] if t.biases else 0
    return affine


cdef void statistics_tile(const float* x, float* out, Shape s, Py_ssize_t first, Statistics* t) noexcept nogil:
    cdef darkbn_work affine[DARKBN_COLUMNS]
    cdef Py_ssize_t channels = min(s.tile, s.channels - first), c
    for c in range(channels):
        affine[c] = statistics_channel(t, first + c)
    apply_tile(x + first * s.spatial, out + first * s.spatial, s, channels, affine, DARKBN_LINEAR)


cdef void statistics_plane(const float* x, float* out, Shape s, Py_ssize_t plane, Statistics* t) noexcept nogil:
    cdef darkbn_work work = statistics_channel(t, plane % s.channels)
    work.kind = affine_kind(s, x, out)
    work.x, work.out = x + plane * s.spatial, out + plane * s.spatial
    darkbn_piece_work(&work, 0, darkbn_piece(0, 1, 0, s.spatial))


cdef apply_statistics(const float[:, :, ::1] x, float[:, :, ::1] out, Statistics* t, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t i
    if s.batch == 0 or s.step == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    if s.tile:
        for i in prange(s.tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=s.parallel):
            statistics_tile(source, target, s, i * s.tile, t)
    else:
        for i in prange(
                s.batch * s.channels, nogil=True, num_threads=threads, schedule="static", use_threads_if=s.parallel):
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
    const float *biases
    float *scale_updates
    float *bias_updates
    float *mean_delta
    float *variance_delta
    double epsilon, gradient_epsilon, statistics_epsilon
    bint outside, gradient_outside, statistics_outside
    double size, gradient_ddof
    int activation


cdef inline darkbn_gate backward_gate(Backward* t, Py_ssize_t channel) noexcept nogil:
    """How delta goes back through the activation of a channel."""
    cdef darkbn_gate gate = gate_of(t.activation)
    gate.scale = <float>(t.scales[channel] * darkbn_inverse_root(t.variance[channel], t.epsilon, t.outside))
    gate.offset = t.biases[channel]
    return gate


cdef inline darkbn_work backward_channel(Backward* t, Py_ssize_t channel, darkbn_sums sums) noexcept nogil:
    """Updates of a channel from the sums of delta; returns how delta changes, without arrays."""
    cdef darkbn_work gradient = darkbn_work(DARKBN_GRADIENT, NULL, NULL, 0, 0, 0, 0, backward_gate(t, channel))
    cdef double variance = t.variance[channel], scale = t.scales[channel]
    cdef double mean_delta = -scale * sums.first * darkbn_inverse_root(
        variance, t.statistics_epsilon, t.statistics_outside)
    cdef double variance_delta = scale * sums.second * darkbn_inverse_root_slope(
        variance, t.statistics_epsilon, t.statistics_outside)
    if t.bias_updates:
        t.bias_updates[channel] += <float>sums.first
    if t.scale_updates:
        t.scale_updates[channel] += <float>(sums.second * darkbn_inverse_root(variance, t.epsilon, t.outside))
    t.mean_delta[channel] = <float>mean_delta
    t.variance_delta[channel] = <float>variance_delta
    gradient.center = t.mean[channel]
    gradient.scale = <float>(scale * darkbn_inverse_root(variance, t.gradient_epsilon, t.gradient_outside))
    gradient.slope = <float>(variance_delta * 2 / (t.size - t.gradient_ddof))
    gradient.offset = <float>(mean_delta / t.size)
    return gradient


cdef void gradient_tile(
        const float* x, float* delta, Shape s, Py_ssize_t channels, const darkbn_work* gradient) noexcept nogil:
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
    cdef darkbn_sums products[DARKBN_COLUMNS]
    cdef float center[DARKBN_COLUMNS]
    cdef float scale[DARKBN_COLUMNS]
    cdef float bias[DARKBN_COLUMNS]
    cdef darkbn_work gradient[DARKBN_COLUMNS]
    cdef Py_ssize_t channels = min(s.tile, s.channels - first), c, i, b, offset = first * s.spatial
    cdef darkbn_sums channel
    cdef darkbn_gate gate
    for c in range(channels):
        gate = backward_gate(t, first + c)
        for i in range(c * s.spatial, (c + 1) * s.spatial):
            center[i], scale[i], bias[i] = t.mean[first + c], gate.scale, gate.offset
    if t.activation != DARKBN_LINEAR:
        for b in range(s.batch):
            i = b * s.step + offset
            darkbn_columns_backward(
                x + i, delta + i, <int>(channels * s.spatial), center, scale, bias, t.activation)
    darkbn_tile_products(
        x + offset, delta + offset, center, s.batch, s.step, <int>(channels * s.spatial), products)
    for c in range(channels):
        channel = darkbn_add_sums(products + c * s.spatial, <int>s.spatial)
        gradient[c] = backward_channel(t, first + c, channel)
    gradient_tile(x + offset, delta + offset, s, channels, gradient)


# ------------------------------------------------------------------------------------------------ channel by channel

# A training pass forward (backward is NULL) or backward (training is NULL) over planes; `out` is delta then.
cdef struct Pass:
    Shape s
    const float *x
    float *out
    Training *training
    Backward *backward
    int kind


cdef inline darkbn_work work_of(Pass* p, Py_ssize_t channel, darkbn_work work) noexcept nogil:
    work.kind = p.kind
    work.x, work.out = p.x + channel * p.s.spatial, p.out + channel * p.s.spatial
    return work


cdef darkbn_work measure(Pass* p, Py_ssize_t channel, const darkbn_work* before) noexcept nogil:
    """Sums of a channel, and meanwhile the work on the one before; returns the work on this one."""
    cdef Shape s = p.s
    cdef Py_ssize_t at = channel * s.spatial
    cdef darkbn_gate gate
    if p.backward == NULL:
        return work_of(p, channel, train_channel(
            p.training, channel, darkbn_plane_moments(p.x + at, s.batch, s.step, s.spatial, before)))
    gate = backward_gate(p.backward, channel)
    return work_of(p, channel, backward_channel(p.backward, channel, darkbn_plane_sums(
        p.x + at, p.out + at, s.batch, s.step, s.spatial, p.backward.mean[channel], &gate, before)))


cdef darkbn_sums sums_together(
        const float* x, float* delta, Shape s, float shift, const darkbn_gate* gate, const darkbn_work* before,
        int threads) noexcept nogil:
    """darkbn_plane_sums by several threads."""
    cdef darkbn_sums sums[DARKBN_MAX_PIECES]
    cdef Py_ssize_t i
    for i in prange(s.pieces, num_threads=threads, schedule="static"):
        sums[i] = darkbn_piece_sums(x, delta, s.batch, s.step, s.spatial, shift, gate, before, s.pieces, i)
    return darkbn_add_sums(sums, s.pieces)


cdef darkbn_work measure_together(
        Pass* p, Py_ssize_t channel, const darkbn_work* before, int threads) noexcept nogil:
    """`measure` by several threads."""
    cdef Shape s = p.s
    cdef const float* x = p.x + channel * s.spatial
    cdef float shift
    cdef darkbn_moments m
    cdef darkbn_gate gate
    if p.backward != NULL:
        gate = backward_gate(p.backward, channel)
        return work_of(p, channel, backward_channel(p.backward, channel, sums_together(
            x, p.out + channel * s.spatial, s, p.backward.mean[channel], &gate, before, threads)))
    shift = darkbn_guess(x, s.batch, s.step, s.spatial)
    m = darkbn_shifted_moments(sums_together(x, NULL, s, shift, NULL, before, threads), s.size, shift)
    if darkbn_is_far(m, shift):
        shift = <float>m.mean
        m = darkbn_shifted_moments(sums_together(x, NULL, s, shift, NULL, NULL, threads), s.size, shift)
    return work_of(p, channel, train_channel(p.training, channel, m))


cdef void some_channels(Pass* p, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef darkbn_work work
    cdef Py_ssize_t channel
    if first == last:
        return
    work = measure(p, first, NULL)
    for channel in range(first + 1, last):
        work = measure(p, channel, &work)
    darkbn_piece_work(&work, p.s.step, darkbn_piece(0, p.s.batch, 0, p.s.spatial))


cdef void all_channels(Pass* p, int threads) noexcept nogil:
    """All planes, by all threads: a share of the channels each, or all of them on one channel (the same bits)."""
    cdef Shape s = p.s
    cdef Py_ssize_t i
    cdef darkbn_work work
    if threads == 1 or not s.parallel:
        some_channels(p, 0, s.channels)
    elif s.pieces > 1 and (s.channels < FEW * threads or s.size >= LARGE):
        work = measure_together(p, 0, NULL, threads)
        for i in range(1, s.channels):
            work = measure_together(p, i, &work, threads)
        for i in prange(s.pieces, num_threads=threads, schedule="static"):
            darkbn_piece_work(&work, s.step, darkbn_piece_of(s.batch, s.spatial, s.pieces, i))
    else:
        for i in prange(threads, num_threads=threads, schedule="static"):
            some_channels(p, s.channels * i // threads, s.channels * (i + 1) // threads)


def forward_train(
        const float[:, :, ::1] x, float[:, :, ::1] out, float[::1] mean, float[::1] variance,
        float[::1] rolling_mean, float[::1] rolling_variance, const float[::1] scales, const float[::1] biases,
        double rolling_decay, int ddof, int rolling_ddof, double epsilon, bint epsilon_outside, int activation,
        int threads):
    cdef Shape s = shape_of(x)
    cdef Training t
    cdef Pass p
    cdef Py_ssize_t i
    if s.batch == 0 or s.channels == 0 or s.spatial == 0:
        return
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &out[0, 0, 0]
    t.mean, t.variance = &mean[0], &variance[0]
    t.rolling_mean, t.rolling_variance = &rolling_mean[0], &rolling_variance[0]
    t.scales, t.biases = &scales[0], &biases[0]
    t.decay, t.ddof, t.rolling_ddof = rolling_decay, ddof, rolling_ddof
    t.epsilon, t.outside, t.activation = epsilon, epsilon_outside, activation
    if s.tile:
        for i in prange(s.tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=s.parallel):
            train_tile(source, target, s, i * s.tile, &t)
    else:
        # Other activations follow while the values are in the cache: they must not be written past it.
        p = Pass(
            s, source, target, &t, NULL,
            affine_kind(s, source, target) if darkbn_is_two_lines(activation) else DARKBN_AFFINE)
        with nogil:
            all_channels(&p, threads)


def backward(
        const float[:, :, ::1] x, float[:, :, ::1] delta, const float[::1] mean, const float[::1] variance,
        const float[::1] scales, const float[::1] biases, float[::1] scale_updates, float[::1] bias_updates,
        float[::1] mean_delta, float[::1] variance_delta, double epsilon, bint epsilon_outside, double gradient_epsilon,
        bint gradient_epsilon_outside, double statistics_epsilon, bint statistics_epsilon_outside,
        int gradient_ddof, int activation, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t i
    cdef Pass p
    if s.batch == 0 or s.step == 0:
        return
    cdef Backward t = Backward(
        mean=&mean[0], variance=&variance[0], scales=&scales[0], biases=&biases[0],
        scale_updates=NULL, bias_updates=NULL,
        mean_delta=&mean_delta[0], variance_delta=&variance_delta[0],
        epsilon=epsilon, gradient_epsilon=gradient_epsilon, statistics_epsilon=statistics_epsilon,
        outside=epsilon_outside, gradient_outside=gradient_epsilon_outside,
        statistics_outside=statistics_epsilon_outside, size=s.size, gradient_ddof=gradient_ddof,
        activation=activation)
    if scale_updates is not None:
        t.scale_updates = &scale_updates[0]
    if bias_updates is not None:
        t.bias_updates = &bias_updates[0]
    cdef const float* source = &x[0, 0, 0]
    cdef float* target = &delta[0, 0, 0]
    if s.tile:
        for i in prange(s.tiles, nogil=True, num_threads=threads, schedule="static", use_threads_if=s.parallel):
            backward_tile(source, target, s, i * s.tile, &t)
    else:
        p = Pass(s, source, target, NULL, &t, DARKBN_GRADIENT)
        with nogil:
            all_channels(&p, threads)


# ------------------------------------------------------------------------------------------ Darknet's single steps

def mean(const float[:, :, ::1] x, float[::1] mean, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        mean[channel] = <float>darkbn_plane_moments(
            &x[0, 0, 0] + channel * s.spatial, s.batch, s.step, s.spatial, NULL).mean


def variance(const float[:, :, ::1] x, const float[::1] mean, float[::1] variance, int ddof, int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    cdef darkbn_moments m
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        m = darkbn_plane_moments(&x[0, 0, 0] + channel * s.spatial, s.batch, s.step, s.spatial, NULL)
        variance[channel] = <float>((m.squares + s.size * (m.mean - mean[channel]) ** 2) / (s.size - ddof))


def backward_scale(const float[:, :, ::1] x_norm, const float[:, :, ::1] delta, float[::1] scale_updates, int threads):
    cdef Shape s = shape_of(delta)
    cdef Py_ssize_t channel
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        scale_updates[channel] += <float>darkbn_plane_sums(
            &x_norm[0, 0, 0] + channel * s.spatial, <float*>&delta[0, 0, 0] + channel * s.spatial, s.batch, s.step,
            s.spatial, 0, NULL, NULL).second


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
        variance_delta[channel] = <float>(darkbn_plane_sums(
            &x[0, 0, 0] + channel * s.spatial, <float*>&delta[0, 0, 0] + channel * s.spatial, s.batch, s.step,
            s.spatial, mean[channel], NULL, NULL).second
            * darkbn_inverse_root_slope(variance[channel], epsilon, epsilon_outside))


def normalize_delta(
        const float[:, :, ::1] x, const float[::1] mean, const float[::1] variance, const float[::1] mean_delta,
        const float[::1] variance_delta, float[:, :, ::1] delta, double epsilon, bint epsilon_outside, int ddof,
        int threads):
    cdef Shape s = shape_of(x)
    cdef Py_ssize_t channel
    cdef darkbn_work work
    for channel in prange(s.channels, nogil=True, num_threads=threads, schedule="static"):
        work = darkbn_work(
            DARKBN_GRADIENT, &x[0, 0, 0] + channel * s.spatial, &delta[0, 0, 0] + channel * s.spatial, mean[channel],
            <float>darkbn_inverse_root(variance[channel], epsilon, epsilon_outside),
            <float>(variance_delta[channel] * 2.0 / (s.size - ddof)), <float>(mean_delta[channel] / s.size),
            gate_of(DARKBN_LINEAR))
        darkbn_piece_work(&work, s.step, darkbn_piece(0, s.batch, 0, s.spatial))
