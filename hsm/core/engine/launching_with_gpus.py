"""Tells jobs of the GPUs that they were granted, and of their port."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hsm.core.engine.backend import NoRoom
from hsm.core.engine.ledger import JobHandle
from hsm.core.gpu.job_variables import (
    gpu_variables,
    master_variables,
    no_gpu_variables,
    tokens_of,
)
from hsm.core.gpu.ports import PORTS, NoPort
from hsm.core.gpu.visible import FoundGpus
from hsm.core.space.command import GPU, PORT, SLOT, filled, late_names


def tell_grant(
    handle: JobHandle, set_env: Mapping[str, str], found: FoundGpus | None, env: dict[str, str]
) -> tuple[str, ...] | None:
    """Tell a job what it was granted, in `env` and its command; returns that.

    Raises:
        NoRoom: no port is free.
    """
    command, grant = handle.work.command, handle.grant
    late = set() if command is None else late_names(command)
    if grant is not None or PORT in late:
        try:
            handle.port = PORTS.take()
        except NoPort as error:
            raise NoRoom(str(error)) from error
    inherited = {**os.environ, **set_env}
    if found is not None and grant is None:
        env.update(no_gpu_variables(inherited))
    elif found is not None and grant is not None:
        assert handle.port is not None
        env.update(gpu_variables(grant, found, inherited))
        env.update(master_variables(handle.port, inherited))
    if command is None or not late:
        return command
    tokens = "" if found is None or grant is None else tokens_of(grant, found)
    return filled(command, {GPU: tokens, SLOT: str(handle.slot), PORT: str(handle.port)})
