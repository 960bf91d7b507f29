"""The compiled kernel under AddressSanitizer and UndefinedBehaviorSanitizer, on the other kernel tests' inputs."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "analyzers" / "sketch" / "_kernel.c"
CHECK = ROOT / "tests" / "support" / "kernel_cases.py"
CFLAGS = (
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    *("-g", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-DPy_LIMITED_API=0x030b0000"),
)


def unavailable(reason: str) -> None:
    if os.environ.get("JAYNES_EXPECT_SANITIZERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def test_no_byte_outside_its_buffers_is_touched_and_nothing_undefined_is_done(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        unavailable("there is no gcc to build with sanitisers")
        return
    library = subprocess.run(  # noqa: S603 - a compiler that shutil.which found
        [compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not Path(library).is_absolute():
        unavailable("gcc has no libasan")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        unavailable("Python's headers are not installed")
    kernel = tmp_path / "_kernel.abi3.so"
    subprocess.run([compiler, *CFLAGS, f"-I{headers}", str(SOURCE), "-o", str(kernel)], check=True)  # noqa: S603
    run = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, str(CHECK), str(kernel)],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LD_PRELOAD": library,
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
        },
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    assert "cases agree" in run.stdout
