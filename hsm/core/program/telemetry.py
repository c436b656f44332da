"""What Sentry and OpenTelemetry have gathered in a job is sent before the job's process ends.

Both send from a thread in the background, and at exit by a hook that the app registered when it set
them up at import; a forked job does not run that. So each job flushes them where they are loaded.
Nothing is imported for it, no job fails of it, and all of it together takes `TIMEOUT` at most: a
library whose server does not answer is left alone then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

#: Seconds that a job's end waits for all of them together.
TIMEOUT = 3.0

#: Where OpenTelemetry's API keeps the providers that were set. Its getters would load one from the
#: environment.
_PROVIDERS = (
    ("opentelemetry.trace", "_TRACER_PROVIDER"),
    ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
)


def flush() -> None:
    """Have each library that is loaded send what it has. Never raises."""
    senders = list(_senders())
    if not senders:
        return
    threads = [
        threading.Thread(target=_call, args=(send,), name="hsm-telemetry", daemon=True)
        for send in senders
    ]
    deadline = time.monotonic() + TIMEOUT
    with suppress(RuntimeError):  # the machine has no thread for it
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
        send = getattr(provider, "force_flush", None)  # the API's own providers have none
        if send is not None:
            yield partial(send, timeout_millis=int(TIMEOUT * 1000))


def _call(send: Callable[[], Any]) -> None:
    try:
        send()
    except Exception:
        return  # Its server is not there, say: the app's own exit would lose the same.
