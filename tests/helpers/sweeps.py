"""What the tests of sweep definitions share: Hydra's parser as the judge, and values to try."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hsm.core.errors import SettingsError
from hsm.core.space.arguments import to_argv
from hsm.core.space.definition import SweepDefinition, read_sweep_file

#: Hydra's own parser, used directly.
HYDRA = OverridesParser.create()
HYDRA_14 = hasattr(hydra.utils, "execution_whitelist")
#: The same examples each time, however busy the machine is, and nothing written to disk.
PROFILE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_NASTY = st.text(
    alphabet="'\"\\${}[](),:;=~@#&!?*|+-_. \t\n\r01eExnulltrfasinc\u00e9\u2028", max_size=12
)
LOOKALIKES = st.sampled_from(
    [
        *("1", "-1", "1e3", ".5", "1.", "1_000", "0x10", "true", "False", "NULL", "inf", "nan", ""),
        *("\\", "\\\\", "'", '"', "\\'", "it's", "a'b\"c", "a\\'b\"c\\", "a b", " a ", " ", "~"),
        *("${x}", "${", "\\${x}", "???", "range(3)", "a,b", "[1]", "{a:1}", "a=b", "--x", "/x/y.z"),
    ]
)
_ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TEXTS = LOOKALIKES | _NASTY | _ANY_TEXT
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
_KEY_CHARACTERS = "abnulltrue01e+-_./\\$%*@?|()[]{}:=, \t"
DICT_KEYS = (
    st.text(alphabet=_KEY_CHARACTERS, min_size=1, max_size=6) | st.integers() | st.booleans()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(DICT_KEYS, inner, max_size=3),
    max_leaves=8,
)


def parsed(override: str) -> Any:
    """The value that Hydra reads in ``key=value``."""
    return HYDRA.parse_override(override).value()


def assert_one_line(error: SettingsError, *parts: str) -> None:
    """A refusal is one line; it holds each of `parts`."""
    message = str(error)
    assert "\n" not in message
    for part in parts:
        assert part in message


def use(definition: SweepDefinition) -> None:
    """Go through some of its points and back through Hydra's parser."""
    count = definition.count()
    assert count >= 1
    assert definition.point(0) == next(iter(definition))
    for point in [*islice(definition, 5), definition.point(count - 1)]:
        assert set(definition.shared_keys()) <= set(point) <= set(definition.all_keys())
        json.dumps(point)
        for argument, (key, value) in zip(to_argv(point), point.items(), strict=True):
            override = HYDRA.parse_override(argument)
            assert override.get_key_element() == key
            assert repr(override.value()) == repr(value)


def file(tmp_path: Path, text: str, name: str = "sweep.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def file_points(tmp_path: Path, text: str, name: str = "sweep.yaml") -> list[dict[str, Any]]:
    return list(read_sweep_file(file(tmp_path, text, name)))


def refusal(tmp_path: Path, text: str, name: str = "sweep.yaml") -> str:
    """The one line that such a file is refused with."""
    with pytest.raises(SettingsError) as caught:
        read_sweep_file(file(tmp_path, text, name))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(tmp_path) + "/", "")
