"""Builds the compiled extension davsr._C and names the dependencies; the rest of the metadata is in pyproject.toml.

    pip install --no-build-isolation .          python setup.py build_ext --inplace

Environment:
    DAVSR_NO_EXT=1    leave the extension out; the package then runs on its references in plain PyTorch, with the same results
    DAVSR_CUDA=1|0    force the CUDA kernels in or out (default: in, where torch has CUDA and nvcc is there)
    DAVSR_CXXFLAGS    further flags for the C++ compiler, such as -Werror or -fsanitize=address
    DAVSR_LDFLAGS     further flags for the linker
    TORCH_CUDA_ARCH_LIST   GPU architectures, as in torch's own extensions (default: 8.0;9.0+PTX)
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
WITHOUT = "To go on without the extension (slower, same results): DAVSR_NO_EXT=1 pip install --no-build-isolation ."
# One object file per instruction set, so that no code for a newer processor can run on an older one.
LEVELS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c", "-mprefer-vector-width=512"],
}
KERNEL_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-Wall", "-Wextra", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math"]
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.h"))

INSTALL_REQUIRES = [
    "torch",
    "ninja",
    "numpy",
    "opencv-python-headless",  # the same module as opencv-python, without the GUI libraries
    "scikit-image",
    "pytest",
    "PyYAML",
    "tqdm",
    "av",
]
EXTRAS = {
    "video": ["imageio", "imageio-ffmpeg"],  # animated pictures and codecs beyond PyAV's own
    "lmdb": ["lmdb"],
    "tensorboard": ["tensorboard"],
    "dev": ["lmdb", "ruff", "mypy", "scipy", "types-PyYAML", "types-tqdm", "build"],
}


def flags(name: str) -> list[str]:
    return os.environ.get(name, "").split()


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def compiler() -> str:
    """The C++ compiler, or an empty string: $CXX where it is set, as the user then means that one."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "c++"]
    return next((found for name in names if (found := shutil.which(name))), "")


def openmp() -> list[str]:
    """The flag that makes at::parallel_for parallel, where torch runs on OpenMP and g++ speaks its dialect of it.

    Nothing is linked for it: the calls find the runtime that torch has loaded, so that both share one pool of threads.
    """
    import torch

    gnu = "Free Software Foundation" in subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout
    if gnu and "parallel backend: OpenMP" in torch.__config__.parallel_info():
        return ["-fopenmp"]
    print("davsr: no OpenMP in common with torch: the CPU kernels run on one thread", file=sys.stderr)
    return []


def wants_cuda(torch_cuda: str | None, cuda_home: str | None) -> bool:
    choice = os.environ.get("DAVSR_CUDA", "")
    toolkit = [Path(cuda_home or "") / name for name in ("bin/nvcc", "include/cuda_runtime.h")]
    complete = cuda_home is not None and all(path.is_file() for path in toolkit)  # nvcc comes without headers, too
    if choice == "1" and not (torch_cuda and complete):
        missing = "a CUDA build of torch" if not torch_cuda else "nvcc with cuda_runtime.h (set CUDA_HOME)"
        raise SystemExit(f"DAVSR_CUDA=1: missing {missing}. DAVSR_CUDA=0 builds the CPU kernels alone.\n{WITHOUT}")
    return choice != "0" and bool(torch_cuda) and complete


def extension() -> dict:
    """Keyword arguments of setup() that build davsr._C, empty where it is left out."""
    if os.environ.get("DAVSR_NO_EXT", "0") == "1":
        print("davsr: DAVSR_NO_EXT=1, the extension is left out; the ops run on their references", file=sys.stderr)
        return {}
    if not {"build_ext", "bdist_wheel", "install", "develop", "editable_wheel", "build"} & set(sys.argv):
        return {}  # metadata alone: needs neither torch nor a compiler
    if not compiler():
        print(
            "davsr: no C++ compiler (g++ or $CXX): the extension is left out; the ops run on their references",
            file=sys.stderr,
        )
        return {}
    os.environ["CXX"] = compiler()  # torch's own build steps take the same
    try:
        from torch.utils import cpp_extension
        from torch.version import cuda as torch_cuda
    except ImportError as error:
        raise SystemExit(
            f"davsr: building the extension needs torch in this environment ({error}).\n"
            f"Install torch first, then: pip install --no-build-isolation .\n{WITHOUT}"
        ) from error

    with_cuda = wants_cuda(torch_cuda, cpp_extension.CUDA_HOME)
    levels = list(LEVELS) if is_x86() else ["baseline"]

    class BuildExtension(cpp_extension.BuildExtension):
        """Compiles the torch-free kernels by themselves, each with its own flags, then the rest as torch does."""

        def build_extension(self, ext) -> None:  # type: ignore[no-untyped-def]  # setuptools names no type for it
            folder = Path(self.build_temp).resolve() / "kernels"
            folder.mkdir(parents=True, exist_ok=True)
            commands = {}
            for level in levels:
                target = folder / f"cpu_{level}.o"
                source = [str(ROOT / "csrc" / f"cpu_{level}.cpp"), "-o", str(target)]
                commands[target] = [compiler(), *KERNEL_FLAGS, *LEVELS[level], *flags("DAVSR_CXXFLAGS"), "-c", *source]
            if with_cuda:
                target = folder / "kernels_cuda.o"
                nvcc = str(Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc")
                source = [str(ROOT / "csrc" / "kernels.cu"), "-o", str(target)]
                options = ["-std=c++17", "-O3", "--extended-lambda", "-Xcompiler", "-fPIC", *gencode()]
                commands[target] = [nvcc, *options, "-c", *source]
            newest = max((ROOT / "csrc" / Path(name).name).stat().st_mtime for name in HEADERS)
            stale = [
                command
                for target, command in commands.items()
                if not target.is_file()
                or target.stat().st_mtime < max(newest, Path(command[-3]).stat().st_mtime)
                or self.force
            ]
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                list(pool.map(run, stale))
            ext.extra_objects = [str(target) for target in commands]
            super().build_extension(ext)

        def build_extensions(self) -> None:
            try:
                super().build_extensions()
            except Exception as error:
                raise SystemExit(f"davsr: the extension did not build: {error}\n{WITHOUT}") from error

    define = [("DAVSR_X86", None)] if is_x86() else []
    sources = ["csrc/schema.cpp", "csrc/cpu.cpp"]
    make = cpp_extension.CppExtension
    if with_cuda:
        define.append(("DAVSR_WITH_CUDA", None))
        sources.append("csrc/cuda.cpp")
        make = cpp_extension.CUDAExtension
    module = make(
        "davsr._C",
        sources,
        depends=HEADERS,
        define_macros=define,
        extra_compile_args={"cxx": ["-O2", "-Wall", "-Wno-unknown-pragmas", *openmp(), *flags("DAVSR_CXXFLAGS")]},
        extra_link_args=["-s" if not flags("DAVSR_CXXFLAGS") else "-g", *flags("DAVSR_LDFLAGS")],
        py_limited_api=True,  # no Python inside: one binary for every Python
    )
    return {"ext_modules": [module], "cmdclass": {"build_ext": BuildExtension}}


def gencode() -> list[str]:
    """nvcc's architecture flags for TORCH_CUDA_ARCH_LIST."""
    options = []
    for entry in os.environ.get("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX").replace(" ", ";").split(";"):
        number = entry.removesuffix("+PTX").replace(".", "")
        options += ["-gencode", f"arch=compute_{number},code=sm_{number}"]
        if entry.endswith("+PTX"):
            options += ["-gencode", f"arch=compute_{number},code=compute_{number}"]
    return options


def run(command: list[str]) -> None:
    print(" ".join(command), flush=True)
    result = subprocess.run(command, capture_output=True, text=True)
    sys.stderr.write(result.stderr)
    if result.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed on {Path(command[-3]).name}")


def version() -> str:
    """From the package's own file, without importing it (and torch with it)."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "davsr" / "__init__.py").read_text(encoding="utf-8"), re.M)
    if not found:
        raise SystemExit('setup.py: davsr/__init__.py must hold a line __version__ = "..."')
    return found[1]


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


setup(
    name="davsr",
    version=version(),
    description="Space-time video super-resolution by alternating a closed-form data step and a learned enhancement",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    entry_points={"console_scripts": ["davsr = davsr.cli:main"]},
    packages=find_packages(include=["davsr", "davsr.*"]),
    package_data={"davsr": ["assets/*", "assets/**/*", "py.typed"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    **extension(),
)
