"""Parsing each override once: the grammar takes longer than all that is done with its result."""

from __future__ import annotations

import copy

from hydra import version
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from hsm.hydra_app.base_watch import watching

#: At half a kilobyte each. A sweep of more points than this has fewer distinct values, as a rule.
_MAX_KEPT = 20_000

_kept: dict[tuple[str, str | None], Override] = {}


class KeptOverridesParser(OverridesParser):
    """Hydra's parser, which keeps what it has parsed, and hands out copies."""

    def parse_overrides(self, overrides: list[str]) -> list[Override]:
        """Parse all; raises what Hydra's parser does."""
        return [self._parse(text) for text in overrides]

    def _parse(self, text: str) -> Override:
        base = version.getbase()
        key = (text, None if base is None else str(base))
        kept = _kept.get(key)
        if kept is None:
            with watching() as watch:
                kept = super().parse_overrides([text])[0]
            # A function, such as shuffle, may return something else the next time.
            is_same_again = watch is not None and watch.is_repeatable and not watch.warnings
            if is_same_again and "(" not in text:
                if len(_kept) >= _MAX_KEPT:
                    _kept.clear()
                _kept[key] = kept
        # The values in it are shared, as `Override.value` returns new lists and dicts at each call.
        override = copy.copy(kept)
        override.config_loader = self.config_loader
        return override
