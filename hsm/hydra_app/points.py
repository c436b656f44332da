"""What the overrides of a job say: its parameters, and where its directory will be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from hsm.core.engine.ledger import JobDir
from hsm.core.logger import get_logger
from hsm.core.plain_json import json_value

log = get_logger(__name__)


class OverrideValues:
    """Reads overrides as parameters.

    A sweep has few different ones, and parsing takes a while: each is parsed once.
    """

    def __init__(self) -> None:
        self._parser = OverridesParser.create()
        self._known: dict[str, tuple[str, Any]] = {}

    def of(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        """The parameters of a job with these overrides, as JSON can hold them."""
        return dict(self._parse(text) for text in overrides)

    def _parse(self, text: str) -> tuple[str, Any]:
        if text not in self._known:
            key, _, value = text.partition("=")
            parsed: Any = value
            try:
                override = self._parser.parse_override(text)
                # `~x`, which takes x away, is something else than `x=null`.
                key, parsed = override.get_key_element().lstrip("+"), override.value()
            except Exception:
                log.debug("recorded as text: %s", text)  # Its job will say what is wrong with it.
            plain = json_value(parsed)
            self._known[text] = (key, plain if plain is not None or parsed is None else value)
        return self._known[text]


def job_directory(subdir: str, overrides: Sequence[str], *, is_moved: bool) -> JobDir:
    """What is known of a job's directory; which one it is, its composed config alone tells.

    Args:
        subdir: hydra.sweep.subdir.
        is_moved: hydra.sweep.dir may be another directory than the sweep's.
    """
    if any("hydra.sweep." in text for text in overrides):
        return JobDir.SHARED
    if subdir == "${hydra.job.num}" and not is_moved:
        return JobDir.USUAL
    return JobDir.OWN if re.search(r"\$\{hydra\.job\.(num|id)\}", subdir) else JobDir.SHARED
