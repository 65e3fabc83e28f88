"""Every account kind by its name: a module of this folder that holds a Provider is one."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping

import providers
from providers.base import Provider


@functools.cache
def kinds() -> Mapping[str, Provider]:
    for module in pkgutil.iter_modules(providers.__path__):
        if not module.ispkg:
            importlib.import_module(f"providers.{module.name}")
    found = {provider.kind: provider() for provider in _descendants(Provider)}
    return dict(sorted(found.items()))


def _descendants(parent: type[Provider]) -> Iterator[type[Provider]]:
    for child in parent.__subclasses__():
        yield child
        yield from _descendants(child)
