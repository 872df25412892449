"""What this build and this machine can do."""

cdef extern from * nogil:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    static int omp_get_max_threads(void) { return 1; }
    static int omp_get_num_procs(void) { return 1; }
    #endif
    #if defined(__x86_64__)
    static int darkbn_supports_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    }
    static int darkbn_supports_v4(void) {
        __builtin_cpu_init();
        return darkbn_supports_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int darkbn_supports_v3(void) { return 0; }
    static int darkbn_supports_v4(void) { return 0; }
    #endif
    #ifdef _OPENMP
    static const int darkbn_openmp = _OPENMP;
    #else
    static const int darkbn_openmp = 0;
    #endif
    """
    int omp_get_max_threads()
    int omp_get_num_procs()
    int darkbn_supports_v3()
    int darkbn_supports_v4()
    int darkbn_openmp
    const char* DARKBN_LEVEL


def supports(str level):
    """Whether this machine runs kernels of that level."""
    if level == "baseline":
        return True
    if level == "x86_v3":
        return bool(darkbn_supports_v3())
    if level == "x86_v4":
        return bool(darkbn_supports_v4())
    return False


def compiled_level():
    """Level that this module was compiled for."""
    return DARKBN_LEVEL.decode()


def openmp_version():
    """Date of the OpenMP standard the build uses (201511 = 4.5); 0 without OpenMP."""
    return darkbn_openmp


def max_threads():
    """Threads that OpenMP would use by default (1 without OpenMP); honours OMP_NUM_THREADS."""
    return omp_get_max_threads()


def processors():
    """Processors that OpenMP sees."""
    return omp_get_num_procs()
