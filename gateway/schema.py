"""What /openapi.json says of the inference endpoints: shapes in the words of OpenAI's reference."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean"}
WHOLE: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
ANYTHING: dict[str, Any] = {"type": "object", "additionalProperties": True}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": True}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


ERROR = _object(("error",), error=_object(("message", "type"), message=TEXT, type=TEXT, param=TEXT, code=TEXT))
MODEL = _object(("id", "object"), id=TEXT, object=TEXT, created=WHOLE, owned_by=TEXT, context_window=WHOLE)
SAMPLING = {
    "stream": FLAG,
    "stream_options": _object((), include_usage=FLAG),
    "max_tokens": WHOLE,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "stop": {"oneOf": [TEXT, _list(TEXT)]},
    "n": WHOLE,
    "seed": WHOLE,
    "user": TEXT,
}
FAULTS: dict[int, tuple[str, dict[str, Any]]] = {
    400: ("The request is wrong; `param` names the field.", ERROR),
    401: ("No key, or one that is not valid.", ERROR),
    404: ("No such model for this key.", ERROR),
    429: ("Too much at once; `Retry-After` says when to come back.", ERROR),
    502: ("The upstream failed.", ERROR),
    503: ("Nothing available.", ERROR),
    504: ("The upstream was too slow.", ERROR),
}


def _operation(id: str, answer: str, shape: dict[str, Any], body: dict[str, Any] | None = None, **more: Any) -> Any:
    answers = {200: (answer, shape), **(FAULTS if body else {401: FAULTS[401], 404: FAULTS[404]})}
    return extend_schema(
        operation_id=id,
        request={"application/json": body} if body else None,
        responses={
            status: OpenApiResponse(response=document, description=sentence)
            for status, (sentence, document) in answers.items()
        },
        **more,
    )


chat = _operation(
    "createChatCompletion",
    "The answer; with `stream` Server-Sent Events that end with `[DONE]`.",
    ANYTHING,
    _object(
        ("model", "messages"),
        model=TEXT,
        messages=_list(_object(("role",), role=TEXT, content={"oneOf": [TEXT, _list(ANYTHING)]})),
        max_completion_tokens=WHOLE,
        tools=_list(ANYTHING),
        tool_choice={"oneOf": [TEXT, ANYTHING]},
        response_format=ANYTHING,
        reasoning_effort=TEXT,
        **SAMPLING,
    ),
    tags=["Inference"],
)
completion = _operation(
    "createCompletion",
    "The answer; with `stream` Server-Sent Events that end with `[DONE]`.",
    ANYTHING,
    _object(("model", "prompt"), model=TEXT, prompt={"oneOf": [TEXT, _list(TEXT)]}, suffix=TEXT, **SAMPLING),
    tags=["Inference"],
)
embedding = _operation(
    "createEmbedding",
    "One vector per input.",
    ANYTHING,
    _object(
        ("model", "input"),
        model=TEXT,
        input={"oneOf": [TEXT, _list(TEXT)]},
        encoding_format={"type": "string", "enum": ["float", "base64"]},
        dimensions=WHOLE,
        user=TEXT,
    ),
    tags=["Inference"],
)
models = _operation(
    "listModels", "The models this key may use.", _object(("data",), object=TEXT, data=_list(MODEL)), tags=["Models"]
)
model = _operation(
    "retrieveModel",
    "The model.",
    MODEL,
    tags=["Models"],
    parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, description="The model's name.")],
)
key = _operation("retrieveKey", "What the presented key is.", ANYTHING, tags=["Key"])
system = extend_schema(responses={200: OpenApiResponse(response=ANYTHING)}, tags=["System"], auth=[])


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apikeys.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


def without_trailing_slashes(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Our patterns allow a trailing slash; the address itself has none."""
    result["paths"] = {path.rstrip("/"): operations for path, operations in result["paths"].items()}
    return result
