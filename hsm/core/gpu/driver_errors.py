"""Recognizes in a program's last words that its GPU had no memory left, or that its driver failed.

    the end of its stderr, then its traceback --gpu_error--> GpuError, or None

Only for programs that failed. What one printed and survived does not count, so the words must stand
at the end: in the last traceback with what caused it, or else in the last lines, with no other
error after them. A traceback that only says that a child process failed leads to what is above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hsm.core.gpu.gpu_error_kinds import GpuError, GpuErrorKind

#: Lines after a traceback's frames, or at the end, in which the error may stand.
_MOST_AFTER, _MOST_PLAIN = 20, 12
#: Characters of a line that are looked at, and that are shown.
_LONGEST_LINE, _LONGEST_TEXT = 2000, 200

#: Texts that mean that a GPU had no memory left.
_OUT_OF_MEMORY = (
    # PyTorch (c10/cuda/CUDACachingAllocator.cpp, and its like for ROCm and Intel); "GPU": others.
    r"\b(?:CUDA|HIP|ROCm|XPU|NPU|GPU) (?:ran )?out of memory\b",
    r"\bMPS backend out of memory\b",
    r"\btorch(?:\.cuda)?\.OutOfMemoryError\b",
    r"\bc10::OutOfMemoryError\b",
    # The runtime's own words (cudaGetErrorString) after whatever a program says of its call:
    # PyTorch "CUDA error: …", "cuda runtime error (2) : …", Triton "Triton Error [CUDA]: …", ONNX
    # Runtime "CUDA failure 2: …", ggml "cudaMalloc failed: …", PyCUDA "cuMemAlloc failed: …".
    r"\b(?:[Cc][Uu][Dd][Aa]|[Hh][Ii][Pp]|cu[A-Z]|Triton)\w*\b.{0,40}?"
    r"\b(?:[Ee]rror|ERROR|[Ff]ailure|[Ff]ailed)\b.{0,300}\bout of memory\b",
    r"\[CUDA\] out of memory\b",  # LightGBM
    r"\bCuda Runtime \(out of memory\)",  # TensorRT
    r"\bRequested amount of GPU memory\b.*\bcould not be allocated\b",  # TensorRT
    # Names of errors: CUDA's runtime and driver, its libraries, HIP and its libraries.
    r"\bcudaErrorMemoryAllocation\b|\bCUDA_ERROR_OUT_OF_MEMORY\b",
    r"\bCU\w+_STATUS_ALLOC(?:ATION)?_FAILED\b|\bCUFFT_ALLOC_FAILED\b",
    r"\bCUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED\b",
    r"\bhipError(?:OutOfMemory|MemoryAllocation)\b|\bHIP_ERROR_OutOfMemory\b",
    r"\bHIP\w+_STATUS_ALLOC_FAILED\b|\brocblas_status_memory_error\b|\bmiopenStatusAllocFailed\b",
    r"\b(?:UR|PI|ZE|VK)_\w*OUT_OF_DEVICE_MEMORY\b",  # Level Zero and SYCL; Vulkan
    # XLA, and so JAX. On a CPU it says "Out of memory allocating …".
    r"(?:RESOURCE_EXHAUSTED|Resource exhausted): Out of memory while trying to allocate\b",
    r"\bFailed to allocate request for [\d.]+\w+ \(\d+B\) on device ordinal\b",
    # TensorFlow, which names the device: host memory does not count.
    r"\b(?:OOM when allocating tensor|failed to allocate memory)\b.*\bdevice:GPU:",
    r"\bdevice:GPU:.*\b(?:OOM when allocating tensor|failed to allocate memory)\b",
    r"\bOut of memory allocating [\d,]+ bytes \(allocated so far\b",  # CuPy
    r"\bcupy\.\S*OutOfMemoryError\b",
    r"\bNCudaLib::TOutOfMemoryError\b",  # CatBoost
    r"\bOut of memory error on GPU \d",  # PaddlePaddle
    r"\bFailed to allocate [\d.]+ \w+ on device '?cuda\b",  # Warp
    r"\bOut of GPU memory\b|\bOutOfGPUMemoryError\b",  # CUDA.jl
    r"\bOut of CUDA pre-allocated memory\b",  # Taichi
)
#: Texts that can mean memory of the host, too: for programs that have GPUs.
_PERHAPS_OUT_OF_MEMORY = (
    r"\bBFCArena::AllocateRawInternal\b.*\bFailed to allocate memory\b",  # ONNX Runtime
    r"\bRESOURCE_EXHAUSTED: Out of memory\b",  # XLA
    r"\bResourceExhaustedError\b.*\bfailed to allocate memory\b",  # TensorFlow
)
#: Texts that mean that a driver or a device failed. Not in here, as a program does that itself:
#: illegal addresses and instructions, "unspecified launch failure", "hardware stack error" (a
#: kernel's stack overflows), assertions and timeouts of kernels, and "initialization error" (a
#: fork).
_DRIVER = (
    # cudaGetErrorString, and the names of the same.
    r"\buncorrectable ECC error encountered\b|\bcudaErrorECCUncorrectable\b",
    r"\bCUDA_ERROR_ECC_UNCORRECTABLE\b|\bhipErrorECCNotCorrectable\b",
    r"\buncorrectable NVLink error detected\b|\bcudaErrorNvlinkUncorrectable\b",
    r"\bCUDA_ERROR_NVLINK_UNCORRECTABLE\b",
    r"\bInvalid access of peer GPU memory over nvlink or a hardware error\b",
    r"\bcudaErrorContained\b|\bCUDA_ERROR_CONTAINED\b",
    r"\bCUDA-capable device(?:\(s\) is/are|s are) busy or unavailable\b",
    r"\bcudaErrorDevicesUnavailable\b|\bCUDA_ERROR_DEVICE_UNAVAILABLE\b",
    r"\bno (?:CUDA|ROCm)-capable device is detected\b|\bcudaErrorNoDevice\b|\bhipErrorNoDevice\b",
    r"\bCUDA_ERROR_NO_DEVICE\b|\bNo CUDA GPUs are available\b|\bNo HIP GPUs are available\b",
    r"\bsystem not yet initialized\b|\bcudaErrorSystemNotReady\b|\bCUDA_ERROR_SYSTEM_NOT_READY\b",
    r"\bCUDA unknown error\b|\bCUDA error: unknown error\b|\bcudaErrorUnknown\b",
    r"\bCUDA_ERROR_UNKNOWN\b",
    # MPS: another client's fault ends all of them.
    r"\bcudaErrorMps\w+|\bCUDA_ERROR_MPS_\w+",
    r"\bMPS client failed to connect to\b|\bMPS client has been terminated by the server\b",
    r"\bMPS server is not ready to accept\b|\bcall between the MPS server and the MPS client\b",
    # NVML (nvmlErrorString, pynvml), nvidia-smi, and the kernel's log.
    r"\bGPU is lost\b|\bNVMLError_GpuIsLost\b|\bNVML_ERROR_GPU_IS_LOST\b",
    r"\bfallen off the bus\b|\bGPU requires reset\b",
    r"\bUnable to determine the device handle for GPU",
    # NVIDIA's list of Xid errors: memory, NVLink, bus, firmware. Most others are of programs.
    r"\bXid \(PCI:[^)]*\): (?:48|61|62|63|64|74|79|92|94|95|119|120|140),",
    r"\bHW Exception by GPU node\b",  # ROCm: a GPU hangs
    r"\b(?:UR|PI|ZE|VK)_\w*ERROR_DEVICE_LOST\b",
)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(texts))


_KINDS = (
    (GpuErrorKind.OUT_OF_MEMORY, _any_of(_OUT_OF_MEMORY)),
    (GpuErrorKind.DRIVER, _any_of(_DRIVER)),
)
_PERHAPS = _any_of(_PERHAPS_OUT_OF_MEMORY)

#: What stands before each line of one process among several (torchrun, accelerate), or of one
#: exception of a group; and colours.
_DECORATION = re.compile(r"^(?:\[[a-z]*\d+\]: ?)|^ *\| |\x1b\[[0-9;]*m")
#: The first line of a traceback, also of one that rich draws or that an exception's message quotes.
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_FRAME = re.compile(r"^\s+File \"|^[│╭╰]")
#: The last line above a traceback's cause, or above what it was raised in handling of.
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
#: Exceptions that only say that a child process failed, which has said why.
_OF_CHILD = re.compile(
    r"\b(?:CalledProcessError|ChildFailedError|ProcessExitedException|BrokenProcessPool)\b"
)
#: Lines that belong to an error but say nothing of it.
_BESIDE = re.compile(
    r"frame #\d|(?:Current )?[Tt]hread 0x|Extension modules: |Fatal Python error: Aborted"
)
#: Words of a program that goes on after an error.
_GOES_ON = re.compile(
    r"\b(?:retry|retries|retrying|skip|skipped|skipping|ignored|ignoring|falling back"
    r"|smaller batch|half the batch|continuing)\b",
    re.IGNORECASE,
)
_OTHER_ERROR = re.compile(
    r"^(?:\S+: )?(?:fatal )?error\b[: ]|^[\w.]+(?:Error|Exception)\b(?!: ?$)"
    r"|segmentation fault|\bassertion\b.*\bfailed\b|\bpanicked at\b|command not found",
    re.IGNORECASE,
)
#: What the end of a program makes others say, or itself.
_CONSEQUENCE = re.compile(
    r"exit(?:ed|ing)?[ -](?:code|status|with)|non-zero|core dumped|aborted|memory|alloc|cuda|gpu",
    re.IGNORECASE,
)
_AMOUNT = re.compile(
    r"\b(?:tried|trying) to allocate ([\d.,]+ ?(?:[KMGTE]i?B|bytes?|B)\b)", re.IGNORECASE
)


def gpu_error(text: str, *, has_gpus: bool = False) -> GpuError | None:
    """Why a program failed, if its GPU is why.

    Args:
        text: the end of what it wrote to stderr; of a Python job, then its traceback.
        has_gpus: whether it was given GPUs, so that memory of the host is the less likely one.
    """
    for line in _last_words(list(map(_bare, text.splitlines()))):
        for kind, pattern in _KINDS:
            if pattern.search(line):
                return GpuError(kind, _shown(line))
        if has_gpus and _PERHAPS.search(line):
            return GpuError(GpuErrorKind.OUT_OF_MEMORY, _shown(line))
    return None


def _bare(line: str) -> str:
    return _DECORATION.sub("", line[:_LONGEST_LINE]).rstrip()


def _shown(line: str) -> str:
    """The essential of a line: how much memory it asked for, or its beginning."""
    amount = _AMOUNT.search(line)
    if amount is not None:
        return f"tried to allocate {amount[1]}"
    line = line.strip()
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def _last_words(lines: list[str]) -> list[str]:
    """The lines that may say why a program ended, the last one first."""
    starts = [at for at, line in enumerate(lines) if _TRACEBACK.search(line)]
    words: list[str] = []
    end = len(lines)
    while starts:
        start = starts.pop()
        said = _said(lines[start + 1 : end])
        is_last = end == len(lines)
        if is_last and (len(said) > _MOST_AFTER or _has_gone_on(said[1:])):
            break
        words += reversed(said)
        end = start
        above = next((line for line in reversed(lines[:start]) if line), "")
        if above.startswith(_CHAINED):
            continue
        if not (said and _OF_CHILD.search(said[0])):
            return words
    return words + _plain_end(lines[:end] if words else lines)


def _said(block: Sequence[str]) -> list[str]:
    """What stands below the frames of a traceback: the exception and its message."""
    frames = [at for at, line in enumerate(block) if _FRAME.search(line)]
    return _plain(block[frames[-1] + 1 :] if frames else block)


def _plain(lines: Iterable[str]) -> list[str]:
    """Lines that are no part of a stack, and are not empty."""
    return [
        line
        for line in lines
        if line
        and (line[0] not in " \t│╭╰" or line.lstrip().startswith("what():"))
        and not _BESIDE.match(line)
    ]


def _has_gone_on(lines: Iterable[str]) -> bool:
    """Whether what follows an error shows that the program survived it."""
    return any(_GOES_ON.search(line) or _is_other_error(line) for line in lines)


def _is_other_error(line: str) -> bool:
    return _OTHER_ERROR.search(line) is not None and not _CONSEQUENCE.search(line)


def _plain_end(lines: Sequence[str]) -> list[str]:
    """The last lines after which there is no other error, the last one first."""
    words = []
    for line in reversed(_plain(lines)[-_MOST_PLAIN:]):
        if _GOES_ON.search(line):
            break
        words.append(line)
        if _is_other_error(line):
            break
    return words
