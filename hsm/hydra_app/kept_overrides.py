"""Parsing each override once: the grammar takes longer than all that is done with its result."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from typing import Any

from hydra import version
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

#: At half a kilobyte each. A sweep of more points than this has fewer distinct values, as a rule.
_MAX_KEPT = 20_000

#: Functions, as `shuffle` returns something else each time; and what issues a warning each time.
_NOT_KEPT = ("(", "_name_")

#: A key, and a whole number as Hydra's grammar has it.
_WHOLE_NUMBER = re.compile(r"([^=]*=)(0|[1-9][0-9]{0,17})")

#: By text and version base.
_kept: dict[tuple[str, str], Override] = {}


def is_constant(text: str) -> bool:
    """Whether parsing an override gives the same each time, and without a word."""
    return not any(each in text for each in _NOT_KEPT)


def overrides_of_hydra(config: DictConfig) -> list[str]:
    """The overrides of Hydra's own config that a sweep's jobs share, with interpolations as given.

    Args:
        config: the sweep's.
    """
    texts: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    return list(texts)


class KeptOverridesParser(OverridesParser):
    """Hydra's parser, which keeps what it has parsed, and hands out copies."""

    def parse_rule(self, s: str, rule_name: str) -> Any:
        """Parse a text; raises what Hydra's parser does."""
        if rule_name != "override" or not is_constant(s):
            return super().parse_rule(s, rule_name)
        key = (s, str(version.getbase()))
        kept = _kept.get(key)
        if kept is None:
            number = _WHOLE_NUMBER.fullmatch(s)
            if number is not None and number[2] != "0":
                # A range has many of them. The rest of the override does not depend on which.
                with suppress(Exception):  # Hydra raises it for the text that the user knows.
                    override = self.parse_rule(number[1] + "0", rule_name)
                    override._value, override.input_line = int(number[2]), s
                    return override
            kept = super().parse_rule(s, rule_name)
            if len(_kept) >= _MAX_KEPT:
                _kept.clear()
            _kept[key] = kept
        # The values in it are shared, as `Override.value` returns new lists and dicts at each call.
        return copy.copy(kept)
