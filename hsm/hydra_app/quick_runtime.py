"""Noting in a config what was chosen, and whence it came, without checking it once more.

Hydra sets ``hydra.runtime.choices`` and ``hydra.runtime.config_sources`` of each config that it
composes, which takes a quarter of a composition from a base. Both are the same in nearly all jobs
of a sweep, so what OmegaConf has made of them is copied. Until they are set, their places have
classes of this module's:

    open_dict --> _Choices --update--> DictConfig     _Runtime --.config_sources = …--> DictConfig
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig

from hsm.hydra_app.config_copy import is_known
from hsm.hydra_app.remembered_nodes import become, place_of, recall, remember

_SOURCES = "config_sources"
#: Kinds of values that are no more than they look like.
_TEXTS = {str, type(None)}
_set_attribute, _update = DictConfig.__setattr__, DictConfig.update


class _Choices(DictConfig):
    def update(self, *values: Any, **more: Any) -> None:
        become(self, DictConfig)
        content = self.__dict__["_content"]
        key = _key_of_choices(self, *values) if len(values) == 1 and not more else None
        if (nodes := recall(key, self)) is not None:
            content.update(nodes)
        else:
            _update(self, *values, **more)
            remember(key, content.values())


class _Runtime(DictConfig):
    def __setattr__(self, name: str, value: Any) -> None:
        if name != _SOURCES:
            _set_attribute(self, name, value)
            return
        become(self, DictConfig)
        content = self.__dict__["_content"]
        key = None if self._get_flag("readonly") else _key_of_sources(content.get(_SOURCES), value)
        if (nodes := recall(key, self)) is not None:
            content.update(nodes)
        else:
            _set_attribute(self, name, value)
            remember(key, [content[_SOURCES]])


def note_quickly(runtime: Any) -> None:
    """Have the two values of ``hydra.runtime`` that Hydra sets next be noted quickly."""
    if DictConfig.__setattr__ is not _set_attribute or DictConfig.update is not _update:
        return
    content = runtime.__dict__["_content"] if type(runtime) is DictConfig else None
    if type(content) is not dict or not is_known(runtime):  # but an interpolation, say
        return
    become(runtime, _Runtime)
    choices = content.get("choices")
    if type(choices) is DictConfig and not choices._get_flag("readonly"):
        become(choices, _Choices)


def _key_of_choices(place: Any, choices: Any) -> Hashable:
    """For what becomes of the choices in an empty place; None if that is not known."""
    if place.__dict__["_content"] != {} or type(choices) is not dict:
        return None
    if not {*map(type, choices), *map(type, choices.values())} <= _TEXTS:
        return None
    kind = place_of(place)
    return None if kind is None else (kind, *choices.items())


def _key_of_sources(place: Any, sources: Any) -> Hashable:
    """For what becomes of the sources, likewise. Each is a node of `source_info`."""
    if type(place) is not ListConfig or place.__dict__["_content"] != MISSING:
        return None
    kind, infos = place_of(place), list[Hashable]()
    if kind is None or type(sources) is not list:
        return None
    for each in sources:
        fields = each.__dict__["_content"] if type(each) is DictConfig else None
        if type(fields) is not dict:
            return None
        texts = [field.__dict__.get("_val") for field in fields.values()]
        if not {*map(type, texts)} <= _TEXTS:
            return None
        infos.append((*fields, *texts))
    return kind, *infos
