"""Reading fields: of callers' requests, where a wrong one is theirs, and of upstreams' answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.conversation import Tool
from providers.documents import BadDocument, dumps
from providers.languages.language import BadRequest
from providers.wire.errors import ProviderError

MOST_COUNTED = 1 << 29  # tokens; no answer has as many, and three such counts still fit into a column

SO_ANYWAY = (
    ("n", 1),
    ("best_of", 1),
    ("tool_choice", "auto"),
    ("function_call", "none"),
    ("modalities", ["text"]),
)

# -- of requests --


def expect_model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must name a model, as a string.", "model")
    return model


def expect_flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", name)
    return bool(value)


def expect_count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest(f"'{name}' must be a whole number of at least 1.", name)
    return value


def expect_limit(body: Mapping[str, Any], name: str) -> int | None:
    """A number of tokens; -1 is no limit, as llama.cpp and LM Studio have it."""
    return None if body.get(name) == -1 else expect_count(body, name)


def expect_number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"'{name}' must be a number.", name)
    return value


def expect_text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"'{name}' must be a string.", name)
    return value


def expect_stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise BadRequest("'stop' must be a string or a list of strings.", "stop")
    return tuple(stop for stop in stops if stop)


def expect_usage_wish(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", "stream_options")
    return bool(options.get("include_usage"))


def expect_object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object that may be left out."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadRequest(f"'{name}' must be an object.", name)
    return value or {}


def expect_function(function: object, at: str) -> Tool:
    """A function's declaration, as OpenAI's and Ollama's formats have it; `at` is where it stands."""
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRequest("A tool must be a function with a 'name'.", at)
    described, schema, strict = (function.get(field) for field in ("description", "parameters", "strict"))
    if not isinstance(described, str | None):
        raise BadRequest("'description' must be a string.", f"{at}.description")
    if not isinstance(schema, dict | None):
        raise BadRequest("'parameters' must be a JSON Schema, as an object.", f"{at}.parameters")
    if not isinstance(strict, bool | None):
        raise BadRequest("'strict' must be true or false.", f"{at}.strict")
    return Tool(function["name"], described, schema, strict)


def expect_whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise BadRequest(f"'{name}' must be a whole number.", name)
    return value


def asks_nothing(field: str, value: object) -> bool:
    """Whether the field says what is so anyway."""
    return not value or (field, value) in SO_ANYWAY


# -- of answers --


def objects_in(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects that may be left out. Raises ProviderError when something else stands there."""
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ProviderError(f"The upstream's answer holds '{name}' that are no list of objects.", kind="broken")
    return value


def object_in(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object that may be left out. Raises ProviderError when something else stands there."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProviderError(f"The upstream's answer holds '{name}' that is no object.", kind="broken")
    return value


def json_in(document: Mapping[str, Any], name: str) -> str:
    """An object as JSON text; one that is left out is empty. Raises ProviderError when something else stands there."""
    try:
        return dumps(object_in(document, name)).decode()
    except BadDocument as error:
        raise ProviderError(f"The upstream's answer holds a bottomless '{name}'.", kind="broken") from error


def text_in(document: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that holds a text."""
    return next((value for name in names if isinstance(value := document.get(name), str) and value), "")


def index_in(document: Mapping[str, Any], name: str = "index") -> int:
    """An index that may be left out. Raises ProviderError when something else stands there."""
    value = document.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or value < 0:
        raise ProviderError("The upstream's answer holds an index that is no number.", kind="broken")
    return value


def vector_of(value: object) -> tuple[float, ...]:
    """A list of numbers. Raises ProviderError."""
    if isinstance(value, list) and all(isinstance(number, (int, float)) for number in value):
        return tuple(value)
    raise ProviderError("The upstream sent a vector in an unknown form.", kind="broken")


def count_in(counters: object, name: str) -> int:
    """A counter; one that is missing, null or nonsense is 0."""
    value = counters.get(name) if isinstance(counters, dict) else None
    return value if isinstance(value, int) and 0 < value < MOST_COUNTED else 0
