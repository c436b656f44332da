"""Which last words mean that a GPU had no memory left, or that its driver failed."""

from __future__ import annotations

import textwrap

import pytest

from hsm.core.gpu.driver_errors import gpu_error
from hsm.core.gpu.gpu_error_kinds import GpuErrorKind

OOM, DRIVER = GpuErrorKind.OUT_OF_MEMORY, GpuErrorKind.DRIVER


def kind_of(text: str, *, has_gpus: bool = False) -> GpuErrorKind | None:
    error = gpu_error(textwrap.dedent(text), has_gpus=has_gpus)
    return None if error is None else error.kind


def raised(error: str) -> str:
    frame = '  File "train.py", line 3, in <module>\n    train()\n'
    return f"Traceback (most recent call last):\n{frame}{error}\n"


TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 23.65 GiB of which 1.18 GiB is free. Process 4711 has 14.20 GiB memory in use. "
    "Including non-PyTorch memory, this process has 8.26 GiB memory in use. Of the allocated "
    "memory 7.80 GiB is allocated by PyTorch, and 22.00 MiB is reserved by PyTorch but "
    "unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
OLDER_TORCH = (
    "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total "
    "capacity; 6.26 GiB already allocated; 5.12 MiB free; 6.33 GiB reserved in total by PyTorch)"
)
JAX = (
    "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to "
    "allocate 4770354232 bytes."
)
TENSORFLOW = (
    "tensorflow.python.framework.errors_impl.ResourceExhaustedError: Graph execution error:\n\n"
    "Detected at node 'model/conv2d/Conv2D' defined at (most recent call last):\n"
    '    File "train.py", line 20, in <module>\n      model.fit(x, y)\n'
    "Node: 'model/conv2d/Conv2D'\n"
    "OOM when allocating tensor with shape[192,576,16,16] and type float on "
    "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc\n"
    "\t [[{{node model/conv2d/Conv2D}}]]\nHint: If you want to see a list of allocated tensors "
    "when OOM happens, add report_tensor_allocations_upon_oom to RunOptions for current info.\n"
    " [Op:__inference_train_function_1234]"
)


@pytest.mark.parametrize(
    "error",
    [
        TORCH,
        OLDER_TORCH,
        TORCH.replace("torch.", "torch.cuda.", 1),
        TORCH.replace("CUDA", "HIP", 1),
        TORCH.replace("CUDA", "XPU", 1),
        "torch.cuda.OutOfMemoryError: Allocation on device 0 would exceed allowed memory.",
        "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously "
        "reported at some other API call, so the stacktrace below might be incorrect.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1.\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "torch.AcceleratorError: CUDA error: out of memory",
        "RuntimeError: HIP error: out of memory",
        "RuntimeError: cuda runtime error (2) : out of memory at /pytorch/aten/src/THC/THC.cpp:265",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "RuntimeError: MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: "
        "1.10 GB, max allowed: 6.80 GB). Tried to allocate 768.00 MB on private pool.",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        JAX,
        "RuntimeError: Resource exhausted: Out of memory while trying to allocate 12582912 bytes.",
        "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Failed to allocate request for 176.00MiB "
        "(184549376B) on device ordinal 0",
        f"{JAX}\nBufferAssignment OOM Debugging.\nBufferAssignment stats:\n"
        + "".join(f"             parameter allocation: {n}MiB\n" for n in range(50)),
        TENSORFLOW,
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: {{function_node "
        "__wrapped__AddV2_device_/job:localhost/replica:0/task:0/device:GPU:0}} failed to allocate "
        "memory [Op:AddV2]",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,000,000,512 bytes "
        "(allocated so far: 512 bytes).",
        "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemAlloc results in "
        "CUDA_ERROR_OUT_OF_MEMORY",
        "pycuda._driver.MemoryError: cuMemAlloc failed: out of memory",
        "xgboost.core.XGBoostError: [11:01:50] ../src/common/device_helpers.cuh:431: Memory "
        "allocation error on worker 0: std::bad_alloc: cudaErrorMemoryAllocation: out of memory\n"
        "- Free memory: 8126464\n- Requested memory: 33554432\n\nStack trace:\n  [bt] (0) lib.so",
        "_catboost.CatBoostError: catboost/cuda/cuda_lib/cuda_base.h:281: CUDA error 2: out of "
        "memory",
        "lightgbm.basic.LightGBMError: [CUDA] out of memory /tmp/cuda_tree_learner.cpp 30",
        "MemoryError: std::bad_alloc: out_of_memory: CUDA error (failed to allocate 332954 bytes) "
        "at: /rmm/cuda_memory_resource.hpp:62: cudaErrorMemoryAllocation out of memory",
        "onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException: [ONNXRuntimeError] : 6 : "
        "RUNTIME_EXCEPTION : CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p)",
        "RuntimeError: level_zero backend failed with error: 39 "
        "(UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "hip.HipError: hipErrorOutOfMemory",
        "RuntimeError: Failed to allocate 4000000000 bytes on device 'cuda:0'",
        "SystemError: (Fatal) ResourceExhaustedError: \n\nOut of memory error on GPU 0. Cannot "
        "allocate 2.0GB memory on GPU 0.",
    ],
)
def test_a_library_that_found_no_memory(error: str) -> None:
    assert kind_of(raised(error)) is OOM


@pytest.mark.parametrize(
    "text",
    [
        """
        terminate called after throwing an instance of 'thrust::system::detail::bad_alloc'
          what():  std::bad_alloc: cudaErrorMemoryAllocation: out of memory
        /tmp/job.sh: line 2: 4711 Aborted                 (core dumped) ./train
        """,
        """
        terminate called after throwing an instance of 'c10::OutOfMemoryError'
          what():  CUDA out of memory. Tried to allocate 2.00 GiB.
        Exception raised from malloc at ../c10/cuda/CUDACachingAllocator.cpp:1798:
        frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x96 (0x79ebd4f6c446)
        frame #1: <unknown function> + 0xe4271b (0x79eb37e4271b in libtorch_cuda.so)

        Fatal Python error: Aborted

        Thread 0x000079e69b400640 (most recent call first):
          File "/usr/lib/python3.10/threading.py", line 324 in wait
        """,
        "CUDA error at main.cu:12: out of memory\n",
        "CUDA error: build/updater_gpu/src/device_helpers.cuh(386): out of memory\n",
        "allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory\n"
        "load: error loading model: unable to allocate CUDA0 buffer\n",
        "ERROR: LoadError: Out of GPU memory trying to allocate 1.000 GiB\nStacktrace:\n [1] f()\n",
        "step 1\nstep 2\nGPU out of memory\nmake: *** [Makefile:2: run] Error 1\n",
    ],
)
def test_a_program_without_a_traceback(text: str) -> None:
    assert kind_of(text) is OOM


def test_how_much_it_asked_for_is_what_is_told() -> None:
    for text, told in (
        (TORCH, "tried to allocate 2.00 GiB"),
        (JAX, "tried to allocate 4770354232 bytes"),
        ("cuMemAlloc failed: out of memory", "cuMemAlloc failed: out of memory"),
        (f"CUDA error: {'x' * 250} out of memory", f"CUDA error: {'x' * 188}…"),
    ):
        assert gpu_error(text) == (OOM, told)


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError: CUDA error: uncorrectable ECC error encountered\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "RuntimeError: cuda runtime error (39) : uncorrectable ECC error encountered at /p/a.cpp:2",
        "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable",
        "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorDevicesUnavailable: CUDA-capable"
        " device(s) is/are busy or unavailable",
        "RuntimeError: CUDA error: no CUDA-capable device is detected",
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: HIP error: no ROCm-capable device is detected",
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet "
        "initialized",
        "RuntimeError: CUDA error: uncorrectable NVLink error detected during the execution",
        "RuntimeError: CUDA error: Invalid access of peer GPU memory over nvlink or a hardware "
        "error",
        "RuntimeError: CUDA error: unknown error",
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",
        "RuntimeError: CUDA error: MPS client failed to connect to the MPS control daemon or the "
        "MPS server",
        "pynvml.NVMLError_GpuIsLost: GPU is lost",
        "NVRM: Xid (PCI:0000:02:00): 79, GPU has fallen off the bus.",
        "Xid (PCI:0000:02:00): 48, pid=4711, An uncorrectable double bit error",
        "Unable to determine the device handle for GPU0000:CB:00.0: Unknown Error",
        "failed call to cuInit: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered",
        "HW Exception by GPU node-1 (Agent handle: 0x55a) reason :GPU Hang",
        "RuntimeError: Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    ],
)
def test_a_driver_or_device_that_failed(error: str) -> None:
    assert kind_of(raised(error)) is DRIVER
    assert kind_of(error) is DRIVER


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError: CUDA error: unspecified launch failure",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: CUDA error: hardware stack error",
        "RuntimeError: CUDA error: misaligned address",
        "RuntimeError: CUDA error: initialization error",
        "RuntimeError: CUDA error: invalid device ordinal",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "AssertionError: Torch not compiled with CUDA enabled",
        "Memory access fault by GPU node-1 (Agent handle: 0x55ac14d27600) on address 0x7f95.",
        "NVRM: Xid (PCI:0000:02:00): 13, pid=4711, Graphics Exception",
        "MemoryError",
        "MemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,)",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 8000000000 bytes. Error code 12 (Cannot allocate "
        "memory)",
        "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 40000000000000 bytes.",
        "ResourceExhaustedError: OOM when allocating tensor with shape[6040,32] and type float on "
        "/job:localhost/replica:0/task:0/device:CPU:0 by allocator cpu",
        "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for "
        "requested buffer of size 8388608000",
        "terminate called after throwing an instance of 'std::bad_alloc'\n"
        "  what():  std::bad_alloc",
        "fork: Cannot allocate memory",
        "ValueError: out of memory units: 'GiB' expected",
    ],
)
def test_other_errors_are_neither(error: str) -> None:
    assert kind_of(raised(error)) is None
    assert kind_of(error) is None


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeException: [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Status Message: "
        "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to "
        "allocate memory for requested buffer of size 2830172160",
        "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 40000000000000 bytes.",
        "errors_impl.ResourceExhaustedError: failed to allocate memory [Op:AddV2]",
    ],
)
def test_what_may_be_memory_of_the_host_counts_for_jobs_with_gpus(error: str) -> None:
    assert kind_of(raised(error)) is None
    assert kind_of(raised(error), has_gpus=True) is OOM


# --- where it stands --------------------------------------------------------------------------

PRINTED = "CUDA out of memory, retrying with smaller batch"


@pytest.mark.parametrize(
    "text",
    [
        f"{PRINTED}\n{raised('ValueError: the batch must be even')}",
        f"{PRINTED}\nValueError: the batch must be even\n",
        f"{PRINTED}\nerror: no such dataset\n",
        f"{PRINTED}\nSegmentation fault\n",
        f"{PRINTED}\n",
        f"CUDA out of memory\n{raised('ValueError: the batch must be even')}",
        "RuntimeError: CUDA error: out of memory\ntrain: error: no such dataset\n",
        "CUDA out of memory\n" + "".join(f"step {n}\n" for n in range(20)),
        # It logs the traceback of an error that it survives.
        f"{raised(TORCH)}WARNING falling back to the CPU\nstep 1\n",
        f"{raised(TORCH)}train: error: no such dataset\n",
        raised(TORCH) + "".join(f"step {n}\n" for n in range(30)),
        raised(TORCH) + raised("ValueError: the batch must be even"),
        # Its own source says it.
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
        "    raise Bad('CUDA out of memory')\nBad: no\n",
        "",
        "\n\n",
    ],
)
def test_what_a_program_survived_does_not_count(text: str) -> None:
    assert kind_of(text, has_gpus=True) is None


CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


@pytest.mark.parametrize(
    "text",
    [
        raised(TORCH) + CAUSE + raised("TrainingFailed: epoch 3"),
        raised(TORCH) + CONTEXT + raised("TrainingFailed: epoch 3"),
        raised(TORCH) + CAUSE + raised("A: a") + CAUSE + raised("B: b"),
        raised("A: a") + raised("B: b") + CONTEXT + raised(TORCH),
        f"Error executing job with overrides: ['x=1']\n{raised(TORCH)}\nSet the environment "
        "variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n",
        f"{raised(TORCH)}wandb: View run at: https://wandb.ai/a/b\nwandb: Find logs at: ./wandb\n",
        # A child process said it, and who started it says that it failed.
        raised(TORCH) + raised("subprocess.CalledProcessError: Command 'a' returned 1."),
        "".join(f"[rank0]: {line}\n" for line in raised(TORCH).splitlines())
        + "E1128 12:00:00 api.py:874] failed (exitcode: 1) local_rank: 0 (pid: 12) of binary: a\n"
        + raised(
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
            f"{'=' * 60}\ntrain.py FAILED\n{'-' * 60}\nFailures:\n  <NO_OTHER_FAILURES>\n"
            "Root Cause (first observed failure):\n[0]:\n  exitcode  : 1 (pid: 12)\n"
        ),
        "CUDA error: out of memory\n" + raised("CalledProcessError: Command 'a' returned 1."),
        "train: error: nothing\nCUDA out of memory\n",
        # An exception quotes that of a thread or process.
        'Traceback (most recent call last):\n  File "a.py", line 1\nRuntimeError: Caught '
        f"RuntimeError in replica 0 on device 0.\nOriginal {raised(OLDER_TORCH)}",
        "╭─ Traceback (most recent call last) ─╮\n│ train.py:3 in <module>   │\n╰───╯\n"
        f"{TORCH[6:90]}\ncapacity of 23.65 GiB of which 1.18 GiB is free.\n",
        f"\x1b[31m{OLDER_TORCH}\x1b[0m\n",
        "  0%|   | 0/100\r 50%|  | 50/100\r" + raised(TORCH),
    ],
)
def test_what_ended_it_counts_whoever_says_so(text: str) -> None:
    assert kind_of(text) is OOM


def test_the_last_error_of_several_counts() -> None:
    ecc = "RuntimeError: CUDA error: uncorrectable ECC error encountered"
    assert kind_of(raised(TORCH) + raised(ecc)) is DRIVER
    assert kind_of(raised(ecc) + raised(TORCH)) is OOM
    assert kind_of(raised(ecc) + CONTEXT + raised(TORCH)) is OOM


def test_very_long_lines_and_many_tracebacks_take_no_time() -> None:
    assert kind_of("cuda error " * 100_000) is None
    assert kind_of(raised("A: a") * 2000) is None
    chain = CAUSE.join([raised(TORCH)] + [raised("A: a")] * 500)
    assert kind_of(chain) is OOM
