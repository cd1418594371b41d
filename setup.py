"""Builds the compiled extension davsr._C, and puts the option files into the package.

All else is said in pyproject.toml.

    pip install .       pip install --no-build-isolation .       python setup.py build_ext --inplace

Where the extension cannot be built, the reason is printed and the package runs on its references in plain PyTorch, with
the same results.

Environment:
    DAVSR_NO_EXT=1         leave the extension out: a wheel for every machine
    DAVSR_REQUIRE_EXT=1    end with an error where it cannot be built
    DAVSR_CUDA=1|0         force the CUDA kernels in or out (default: in, where torch has CUDA and nvcc is there)
    DAVSR_CXXFLAGS         further flags for the C++ compiler, such as -Werror or -fsanitize=address
    DAVSR_LDFLAGS          further flags for the linker
    CXX                    the compiler (default: g++, c++ or clang++)
    TORCH_CUDA_ARCH_LIST   GPU architectures, as in torch's own extensions
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "csrc"
PYTHON = "cp310"  # the oldest Python; the extension holds no Python, so that one binary serves this and all newer ones
# One object file per instruction set, so that no code for a newer processor can run on an older one.
LEVELS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c", "-mprefer-vector-width=512"],
}
KERNEL_FLAGS = ["-std=c++17", "-O3", "-Wall", "-Wextra", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math"]
HOST_FLAGS = [
    "-std=c++20",
    "-O2",
    "-DNDEBUG",
    "-Wall",
    "-Wno-unknown-pragmas",
]  # of the files that include torch, which needs C++20


class CannotBuildError(Exception):
    """Why there will be no extension."""


class BuildExtension(build_ext):
    """Compiles the torch-free kernels, each with the flags of its instruction set, then the files that register
    them.
    """

    def run(self) -> None:
        for extension in self.extensions:
            try:
                self._build(Path(self.get_ext_fullpath(extension.name)))
            except CannotBuildError as error:
                print(f"davsr: {error}: the extension is left out; the ops run on their references", file=sys.stderr)
                if os.environ.get("DAVSR_REQUIRE_EXT", "0") == "1":
                    raise SystemExit("davsr: DAVSR_REQUIRE_EXT=1, so this ends here") from None
                self.extensions = []  # nothing that later steps could look for

    def _build(self, target: Path) -> None:
        if sys.platform == "win32":
            raise CannotBuildError("the kernels are written for g++ and clang, not for Windows' compiler")
        cxx, torch = compiler(), Torch()
        objects = Path(self.build_temp).resolve() / f"{Path(cxx).name}-torch-{torch.version}"
        objects.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        common = ["-fPIC", *flags("DAVSR_CXXFLAGS")]
        commands = {}
        for level in LEVELS if is_x86() else ["baseline"]:
            commands[f"cpu_{level}.cpp"] = [cxx, *KERNEL_FLAGS, *LEVELS[level], *common]
        host = [cxx, *HOST_FLAGS, *openmp(cxx, torch), *common, *torch.compile_flags]
        launching = (
            "schema.cpp",
            "cpu.cpp",
            "cpu_camera.cpp",
            "cpu_fusion.cpp",
            "cpu_learned.cpp",
            "cpu_motion.cpp",
            *(["cuda.cpp"] if torch.with_cuda else []),
        )
        commands.update(dict.fromkeys(launching, host))
        if torch.with_cuda:
            commands["kernels.cu"] = [*torch.nvcc, "-std=c++17", "-O3", "--extended-lambda", "-Xcompiler", "-fPIC"]
        newest = max(path.stat().st_mtime for path in [*SOURCES.glob("*.h"), ROOT / "setup.py"])

        def compile_file(name: str) -> Path:
            source, result = SOURCES / name, objects / f"{name}.o"
            if self.force or not result.is_file() or result.stat().st_mtime < max(newest, source.stat().st_mtime):
                call([*commands[name], "-c", str(source), "-o", str(result)], name)
            return result

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            results = list(pool.map(compile_file, commands))
        call([cxx, "-shared", *map(str, results), "-o", str(target), *torch.link_flags, *flags("DAVSR_LDFLAGS")], "_C")


class Torch:
    """What torch says about compiling against it."""

    def __init__(self) -> None:
        try:
            import torch
            from torch.utils import cpp_extension
        except ImportError as error:
            raise CannotBuildError(f"torch is not there to build against ({error})") from None
        self.version = torch.__version__
        self.openmp = "parallel backend: OpenMP" in torch.__config__.parallel_info()
        self.with_cuda = wants_cuda(torch.version.cuda, cpp_extension.CUDA_HOME)
        kind = "cuda" if self.with_cuda else "cpu"
        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
        define = [abi, *(["-DDAVSR_X86"] if is_x86() else []), *(["-DDAVSR_WITH_CUDA"] if self.with_cuda else [])]
        self.compile_flags = [*define, *(f"-isystem{path}" for path in cpp_extension.include_paths(kind))]
        libraries = ["c10", "torch", "torch_cpu", *(["c10_cuda", "torch_cuda", "cudart"] if self.with_cuda else [])]
        strip = ["-Wl,-s"] if sys.platform == "linux" and not flags("DAVSR_CXXFLAGS") else []
        paths = cpp_extension.library_paths(kind)
        self.link_flags = [*(f"-L{path}" for path in paths), *(f"-l{name}" for name in libraries), *strip]
        self.nvcc = [str(Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc"), *architectures()] if self.with_cuda else []


class BuildPython(build_py):
    """The modules, and beside them the option files, which lie at the top of the repository."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for file in (ROOT / "options").rglob("*.yml"):
                target = Path(self.build_lib) / "davsr" / "assets" / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


class Wheel(bdist_wheel):
    """Named for every machine where the extension did not build."""

    def get_tag(self) -> tuple[str, str, str]:
        self.root_is_pure = not any((Path(self.bdist_dir) / "davsr").glob("_C.*"))
        return super().get_tag()


def flags(name: str) -> list[str]:
    return os.environ.get(name, "").split()


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def compiler() -> str:
    """$CXX where it is set, as the user then means that one, otherwise the first C++ compiler there is."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise CannotBuildError(f"no C++ compiler ({', '.join(names)})")
    return found


def openmp(cxx: str, torch: Torch) -> list[str]:
    """The flag that makes at::parallel_for parallel, where torch runs on OpenMP and g++ speaks its dialect of it.

    Nothing is linked for it: the calls find the runtime that torch has loaded, so that both share one pool of threads.
    """
    told = subprocess.run([cxx, "--version"], capture_output=True, text=True).stdout
    if "Free Software Foundation" in told and torch.openmp:
        return ["-fopenmp"]
    print("davsr: no OpenMP in common with torch: the CPU kernels run on one thread", file=sys.stderr)
    return []


def wants_cuda(torch_cuda: str | None, cuda_home: str | None) -> bool:
    choice = os.environ.get("DAVSR_CUDA", "")
    toolkit = [Path(cuda_home or "") / name for name in ("bin/nvcc", "include/cuda_runtime.h")]
    complete = cuda_home is not None and all(path.is_file() for path in toolkit)  # nvcc comes without headers, too
    if choice == "1" and not (torch_cuda and complete):
        missing = "a CUDA build of torch" if not torch_cuda else "nvcc with cuda_runtime.h (set CUDA_HOME)"
        raise SystemExit(f"DAVSR_CUDA=1: missing {missing}. DAVSR_CUDA=0 builds the CPU kernels alone.")
    return choice != "0" and bool(torch_cuda) and complete


def architectures() -> list[str]:
    """nvcc's flags for TORCH_CUDA_ARCH_LIST, names such as Ampere included.

    Unset: the cards of this machine, or 8.0;9.0+PTX.
    """
    import torch
    from torch.utils.cpp_extension import (
        _get_cuda_arch_flags,
    )  # the reading of the list that torch's own extensions use

    if not os.environ.get("TORCH_CUDA_ARCH_LIST"):
        os.environ.pop("TORCH_CUDA_ARCH_LIST", None)
        if not torch.cuda.is_available():
            os.environ["TORCH_CUDA_ARCH_LIST"] = "8.0;9.0+PTX"
    try:
        return list(_get_cuda_arch_flags())
    except ValueError as error:
        raise CannotBuildError(f"TORCH_CUDA_ARCH_LIST: {error}") from None


def call(command: list[str], name: str) -> None:
    print(" ".join(command), flush=True)
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise CannotBuildError(f"{command[0]} cannot be run ({error})") from None
    sys.stderr.write(result.stderr)
    if result.returncode:
        raise CannotBuildError(f"{Path(command[0]).name} failed on {name}")


WITHOUT = os.environ.get("DAVSR_NO_EXT", "0") == "1"
if WITHOUT:
    print("davsr: DAVSR_NO_EXT=1, the extension is left out; the ops run on their references", file=sys.stderr)
LIMITED = not WITHOUT and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)  # free-threaded Pythons have no such binaries yet
COMMANDS: dict[str, type[Command]] = {"build_ext": BuildExtension, "build_py": BuildPython, "bdist_wheel": Wheel}

setup(
    ext_modules=[] if WITHOUT else [Extension("davsr._C", sources=[], py_limited_api=True)],
    options={"bdist_wheel": {"py_limited_api": PYTHON}} if LIMITED else {},
    cmdclass=COMMANDS,
)
