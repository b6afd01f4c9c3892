"""What the processor is: rounding, and hence every digit of a result, depends on it."""

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

INFO = Path("/proc/cpuinfo")
BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # flags of x86-64 and of ARM


def facts() -> dict[str, Any]:
    """Name, family, model and vector instructions that PyTorch uses; whether bfloat16 is native. Imports torch.

    What the system does not say is None.
    """
    import torch  # takes a second

    text = _info()
    return {
        "cpu": name(),
        "cpu_family": _field(text, "cpu family"),
        "cpu_model": _field(text, "model"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bfloat16(),
    }


def bfloat16() -> bool | None:
    """Whether the processor has bfloat16 natively; None where the system does not say."""
    text = _info()
    flags = _field(text, "flags") or _field(text, "Features")
    return None if flags is None else not set(flags.split()).isdisjoint(BFLOAT16)


def has_bfloat16(device: str) -> bool:
    """Whether `device` (cpu or cuda) has bfloat16 natively; elsewhere it is emulated, and slow."""
    if device == "cpu":
        return bool(bfloat16())
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def name() -> str:
    """The processor's name."""
    return _field(_info(), "model name") or platform.processor() or platform.machine()


def _info() -> str:
    try:
        return INFO.read_text()
    except OSError:
        return ""


def _field(text: str, key: str) -> str | None:
    """The first value of `key` in /proc/cpuinfo."""
    match = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def compiler() -> str | None:
    """The C++ compiler that is there, by $CXX or a usual name."""
    names = (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")
    return next(filter(shutil.which, names), None)
