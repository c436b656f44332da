"""Parsing each override once: the grammar takes longer than all that is done with its result."""

from __future__ import annotations

import copy

from hydra import version
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

#: At half a kilobyte each. A sweep of more points than this has fewer distinct values, as a rule.
_MAX_KEPT = 20_000

#: Functions, as `shuffle` returns something else each time; and what issues a warning each time.
_NOT_KEPT = ("(", "_name_")

#: By text and version base.
_kept: dict[tuple[str, str], Override] = {}


class KeptOverridesParser(OverridesParser):
    """Hydra's parser, which keeps what it has parsed, and hands out copies."""

    def parse_overrides(self, overrides: list[str]) -> list[Override]:
        """Parse all; raises what Hydra's parser does."""
        try:
            return [self._parse(text) for text in overrides]
        except HydraException:
            pass
        # Hydra 1.4 says where among the others the bad one is.
        return super().parse_overrides(overrides)

    def _parse(self, text: str) -> Override:
        key = (text, str(version.getbase()))
        kept = _kept.get(key)
        if kept is None:
            kept = super().parse_overrides([text])[0]
            if not any(each in text for each in _NOT_KEPT):
                if len(_kept) >= _MAX_KEPT:
                    _kept.clear()
                _kept[key] = kept
        # The values in it are shared, as `Override.value` returns new lists and dicts at each call.
        override = copy.copy(kept)
        override.config_loader = self.config_loader
        return override
