"""Sends what Sentry and OpenTelemetry have collected in a job, before the job's process ends.

Both send from a background thread, and at exit from a hook that the app registered at import, which
a forked job does not run. So each job flushes them, if they are loaded. This imports nothing,
never fails a job, and takes at most `TIMEOUT` seconds in all: after that, a library whose server
does not answer is abandoned.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

#: Maximum seconds that a job's end waits for all libraries together.
TIMEOUT = 3.0

#: Where OpenTelemetry's API keeps the providers that were set. Its getters are no use: they would
#: load one that the environment names.
_PROVIDERS = (
    ("opentelemetry.trace", "_TRACER_PROVIDER"),
    ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
)


def flush() -> None:
    """Have each loaded library send what it has. Never raises."""
    senders = list(_senders())
    if not senders:
        return
    threads = [
        threading.Thread(target=_call, args=(send,), name="hsm-telemetry", daemon=True)
        for send in senders
    ]
    deadline = time.monotonic() + TIMEOUT
    with suppress(RuntimeError):  # No new thread could be started.
        for thread in threads:
            thread.start()
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, deadline - time.monotonic()))


def _senders() -> Iterator[Callable[[], Any]]:
    sentry = getattr(sys.modules.get("sentry_sdk"), "flush", None)
    if sentry is not None:
        yield partial(sentry, timeout=TIMEOUT)
    for module, attribute in _PROVIDERS:
        provider = getattr(sys.modules.get(module), attribute, None)
        send = getattr(provider, "force_flush", None)  # The API's default providers have none.
        if send is not None:
            yield partial(send, timeout_millis=int(TIMEOUT * 1000))


def _call(send: Callable[[], Any]) -> None:
    try:
        send()
    except Exception:
        return  # E.g. its server is down: the app's own exit hook would fail likewise.
