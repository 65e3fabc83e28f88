"""What a model can or cannot do, and what a request needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from providers.wire.errors import CannotCarry

Capability = Literal["tools", "images", "json_schema", "thinking", "embeddings", "streaming"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

Needs = Mapping[Capability, str]  # what a request needs -> the field that says so

SENTENCES: Mapping[Capability, str] = {
    "tools": "No model behind this name can call tools.",
    "images": "No model behind this name can see images.",
    "json_schema": "No model behind this name can answer in a given JSON form.",
    "thinking": "No model behind this name can be told how much to think.",
    "embeddings": "No model behind this name makes embeddings.",
}


def known(values: object) -> dict[Capability, bool]:
    """The capabilities among what was stored or listed; whatever else stands there is left out."""
    stored = values if isinstance(values, Mapping) else {}
    return {name: stored[name] for name in CAPABILITIES if isinstance(stored.get(name), bool)}


def refusal(lacks: Iterable[Capability], needs: Needs) -> CannotCarry | None:
    """Why a model that lacks these cannot carry a request with these needs.

    A model that cannot stream carries streamed requests all the same: it is asked for the whole.
    """
    for capability in lacks:
        if capability in needs and capability != "streaming":
            return CannotCarry(SENTENCES[capability], needs[capability])
    return None
