"""Builds the CPU kernels: every darkbn/cpu/*.pyx once per instruction-set level.

Environment:
    DARKBN_LEVELS            comma-separated levels to build instead of all that the compiler knows
    DARKBN_REQUIRE_OPENMP=1  fail when OpenMP does not work (default: warn and build serial kernels)
    DARKBN_DEBUG=1           bounds checks, assertions, no optimization
    DARKBN_SANITIZE=1        address and undefined-behaviour sanitizers (run Python with libasan preloaded)
"""

import concurrent.futures
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SOURCES = ROOT / "darkbn" / "cpu"
#: Module with the utility code that Cython shares between the kernels.
SHARED = "darkbn.cpu._shared"
INCLUDE = ROOT / "darkbn" / "include"
DEBUG = os.environ.get("DARKBN_DEBUG") == "1"
SANITIZE = os.environ.get("DARKBN_SANITIZE") == "1"
TRANSLATED = ROOT / "build" / ("cython-debug" if DEBUG else "cython")
X86 = platform.machine().lower() in ("x86_64", "amd64")

# Compiler flags of each level. No -ffast-math: linking with it makes a whole process flush denormals.
LEVEL_FLAGS = {"baseline": []}
if X86:
    LEVEL_FLAGS["x86_v3"] = ["-march=x86-64-v3"]
    LEVEL_FLAGS["x86_v4"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

PROBE = """
#include <omp.h>
#include <stdio.h>
int main(void) {
    int sum = 0;
    #pragma omp parallel for num_threads(2) reduction(+:sum)
    for (int i = 0; i < 10; ++i) sum += i + omp_get_num_threads() * 0;
    printf("%d", sum);
    return sum == 45 ? 0 : 1;
}
"""


def openmp_flags(compiler):
    """The flags with which an OpenMP program compiles, links and runs; None if there are none."""
    for flags in (["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            try:
                objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
                ran = subprocess.run([str(Path(folder, "probe"))], capture_output=True, timeout=60, check=False)
            except Exception:  # whatever a compiler raises, the answer is the same: not with these flags
                continue
            if ran.returncode == 0 and ran.stdout == b"45":
                return flags
    return None


def accepts(compiler, flags):
    """Whether the compiler takes these flags."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "flags.c")
        source.write_text("int darkbn_flags;\n")
        try:
            compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
        except Exception:
            return False
        return True


def extensions():
    """One extension per level and .pyx; BuildKernels turns the .pyx into the C file of its level."""
    wanted = os.environ.get("DARKBN_LEVELS")
    levels = wanted.split(",") if wanted else list(LEVEL_FLAGS)
    unknown = set(levels) - set(LEVEL_FLAGS)
    if unknown:
        sys.exit(f"DARKBN_LEVELS: unknown {sorted(unknown)}; this machine's levels are {list(LEVEL_FLAGS)}")
    kernels = [source.name for source in sorted(SOURCES.glob("*.pyx")) if source.name != "simd.pyx"]
    return [
        # These two are compiled once, for the baseline: one asks the machine what it can do, the other holds the
        # code of memoryviews that would otherwise be in every module, at several seconds of compilation each.
        Extension("darkbn.cpu.simd", ["darkbn/cpu/simd.pyx"]),
        Extension(SHARED, []),
        *(Extension(f"darkbn.cpu._{level}.{Path(k).stem}", [f"darkbn/cpu/{k}"]) for level in levels for k in kernels),
    ]


class BuildKernels(build_ext):
    """Probes the compiler, translates each .pyx per level and compiles it with that level's flags."""

    def build_extensions(self):
        openmp = openmp_flags(self.compiler)
        if openmp is None:
            message = "OpenMP does not work with this compiler: the kernels will run on one thread."
            if os.environ.get("DARKBN_REQUIRE_OPENMP") == "1":
                sys.exit(f"error: {message} (DARKBN_REQUIRE_OPENMP=1)")
            sys.stderr.write(f"\n{'*' * 78}\nWARNING: {message}\n{'*' * 78}\n\n")
        wanted = {level_of(e) for e in self.extensions}
        known = {level for level in wanted if accepts(self.compiler, LEVEL_FLAGS[level])}
        self.extensions[:] = [e for e in self.extensions if level_of(e) in known]
        translate_all([e.name for e in self.extensions])
        for extension in self.extensions:
            self.configure(extension, openmp or [])
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def copy_extensions_to_source(self):
        for extension in self.extensions:
            Path(ROOT, *extension.name.split(".")[:-1]).mkdir(exist_ok=True)
        super().copy_extensions_to_source()

    def configure(self, extension, openmp):
        import numpy

        level = level_of(extension)
        extension.sources = [str(translated(extension.name).relative_to(ROOT))]
        # setuptools makes these folders itself, but two of its threads may think that the other has done it.
        Path(self.build_temp, extension.sources[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(self.get_ext_fullpath(extension.name)).parent.mkdir(parents=True, exist_ok=True)
        if extension.name != SHARED:
            extension.depends = sorted(headers(SOURCES / f"{extension.name.split('.')[-1]}.pyx"))
        extension.include_dirs = [numpy.get_include(), str(ROOT / "darkbn" / "include")]
        extension.define_macros = [
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ("DARKBN_LEVEL", f'"{level}"'),
        ]
        optimize = ["-O0", "-g"] if DEBUG else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
        sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"] if SANITIZE else []
        extension.extra_compile_args = [
            *optimize,
            *LEVEL_FLAGS[level],
            *openmp,
            *sanitize,
            "-Wno-unused-function",
        ]
        extension.extra_link_args = [*openmp, *sanitize]


def level_of(extension):
    package = extension.name.split(".")[-2]
    return package.removeprefix("_") if package.startswith("_") else "baseline"


def headers(source, found=None):
    """Our headers that a .pyx, .pxd or .h uses, directly or through others."""
    found = set() if found is None else found
    text = source.read_text()
    named = [INCLUDE / name for name in re.findall(r'["<](darkbn/\w+\.h)[">]', text)]
    named += [source.parent / name for name in re.findall(r'#include "(\w+\.h)"', text)]
    shared = [SOURCES / f"{name}.pxd" for name in re.findall(r"from darkbn\.cpu\.(\w+) cimport", text)]
    for header in named + shared:
        if header.exists() and str(header) not in found:
            found.add(str(header))
            headers(header, found)
    return found


def translated(name):
    """The C file of the extension with that full name: in a folder of its level's, where nothing else has its name."""
    package, module = name.split(".")[-2:]
    return TRANSLATED / package / f"{module}.c"


def translate(name):
    """Cython to C, unless the C file is newer than its sources. Returns what Cython complained about."""
    target = translated(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = SOURCES / f"{target.stem}.pyx"
    dependencies = [Path(__file__), *([] if name == SHARED else [source]), *SOURCES.glob("*.pxd")]
    if target.exists() and target.stat().st_mtime >= max(d.stat().st_mtime for d in dependencies):
        return ""
    directives = {
        "language_level": 3,
        "boundscheck": DEBUG,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": DEBUG,
        "embedsignature": True,
        "freethreading_compatible": True,
    }
    # A process of its own, so that all processors translate.
    command = [sys.executable, "-m", "cython", *(f"-X{key}={value}" for key, value in directives.items())]
    if name == SHARED:
        command += [f"--generate-shared={target}"]
    else:
        command += [
            f"--shared={SHARED}",
            "--module-name",
            name,
            "-I.",
            "-o",
            str(target),
            str(source.relative_to(ROOT)),
        ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        target.unlink(missing_ok=True)
        return f"{source}:\n{done.stdout}{done.stderr}"
    return ""


def translate_all(names):
    """Translate in parallel; ends the build when one fails."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = [text for text in pool.map(translate, names) if text]
    if complaints:
        sys.exit("Cython could not translate " + "\n".join(complaints))


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
