from __future__ import annotations

import subprocess
import sys


def test_windows_is_refused_with_a_clear_message() -> None:
    program = "import sys; sys.platform = 'win32'; import hsm"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "hsm needs Linux, or another Unix: on Windows, use it inside WSL" in done.stderr
