"""What /openapi.json says of the inference endpoints: shapes as the references of their makers have them."""

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
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": properties, "additionalProperties": True}


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
FAULTS: dict[int, str] = {
    400: "The request is wrong; the error names the field.",
    401: "No key, or one that is not valid.",
    404: "No such model for this key.",
    429: "Too much at once; `Retry-After` says when to come back.",
    502: "The upstream failed.",
    503: "Nothing available.",
    504: "The upstream was too slow.",
}


def _operation(
    id: str,
    answer: str,
    shape: dict[str, Any],
    body: dict[str, Any] | None = None,
    error: dict[str, Any] = ERROR,
    takes: str = "application/json",
    gives: str = "application/json",
    **more: Any,
) -> Any:
    faults = FAULTS if body else {status: FAULTS[status] for status in (401, 404)}
    answers = {200: (answer, shape), **{status: (sentence, error) for status, sentence in faults.items()}}
    return extend_schema(
        operation_id=id,
        request={takes: body} if body else None,
        responses={
            status if status != 200 else (200, gives): OpenApiResponse(response=document, description=sentence)
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
response = _operation(
    "createResponse",
    "The answer; with `stream` Server-Sent Events from `response.created` to `response.completed`. Nothing is stored.",
    ANYTHING,
    _object(
        ("model", "input"),
        model=TEXT,
        input={"oneOf": [TEXT, _list(ANYTHING)]},
        instructions=TEXT,
        tools=_list(ANYTHING),
        tool_choice={"oneOf": [TEXT, ANYTHING]},
        parallel_tool_calls=FLAG,
        text=ANYTHING,
        reasoning=ANYTHING,
        max_output_tokens=WHOLE,
        temperature=NUMBER,
        top_p=NUMBER,
        stream=FLAG,
        store=FLAG,
        user=TEXT,
    ),
    tags=["Inference"],
)
ANTHROPIC_ERROR = _object(
    ("type", "error"), type=TEXT, error=_object(("type", "message"), type=TEXT, message=TEXT), request_id=TEXT
)
MESSAGES: dict[str, Any] = {
    "model": TEXT,
    "messages": _list(_object(("role", "content"), role=TEXT, content={"oneOf": [TEXT, _list(ANYTHING)]})),
    "system": {"oneOf": [TEXT, _list(ANYTHING)]},
    "tools": _list(ANYTHING),
    "tool_choice": ANYTHING,
    "thinking": ANYTHING,
}
messages = _operation(
    "createMessage",
    "The answer; with `stream` Server-Sent Events from `message_start` to `message_stop`.",
    ANYTHING,
    _object(
        ("model", "messages", "max_tokens"),
        **MESSAGES,
        max_tokens=WHOLE,
        stream=FLAG,
        temperature=NUMBER,
        top_p=NUMBER,
        top_k=WHOLE,
        stop_sequences=_list(TEXT),
        metadata=_object((), user_id=TEXT),
    ),
    ANTHROPIC_ERROR,
    tags=["Inference"],
)
count_tokens = _operation(
    "countMessageTokens",
    "The count; with the header `x-gateway-estimated` where it is an estimate.",
    _object(("input_tokens",), input_tokens=WHOLE),
    _object(("model", "messages"), **MESSAGES),
    ANTHROPIC_ERROR,
    tags=["Inference"],
)
FILE: dict[str, Any] = {"type": "string", "format": "binary"}
FORM = "multipart/form-data"
EVENTS_TOO = "; with `stream` Server-Sent Events, as the upstream sends them."
IMAGE: dict[str, Any] = {
    "n": WHOLE,
    "size": TEXT,
    "quality": TEXT,
    "response_format": TEXT,
    "stream": FLAG,
    "user": TEXT,
}
SOUND: dict[str, Any] = {"file": FILE, "model": TEXT, "prompt": TEXT, "response_format": TEXT, "temperature": NUMBER}
image_generation = _operation(
    "createImage",
    f"The images{EVENTS_TOO}",
    ANYTHING,
    _object(("model", "prompt"), model=TEXT, prompt=TEXT, **IMAGE),
    tags=["Inference"],
)
image_edit = _operation(
    "createImageEdit",
    f"The images{EVENTS_TOO}",
    ANYTHING,
    _object(("model", "image", "prompt"), model=TEXT, image=_list(FILE), mask=FILE, prompt=TEXT, **IMAGE),
    takes=FORM,
    tags=["Inference"],
)
image_variation = _operation(
    "createImageVariation",
    "The images.",
    ANYTHING,
    _object(("model", "image"), model=TEXT, image=FILE, n=WHOLE, size=TEXT, response_format=TEXT, user=TEXT),
    takes=FORM,
    tags=["Inference"],
)
speech = _operation(
    "createSpeech",
    "The sound, as it is made and in the format that was asked for.",
    FILE,
    _object(("model", "input", "voice"), model=TEXT, input=TEXT, voice=TEXT, response_format=TEXT, speed=NUMBER),
    gives="application/octet-stream",
    tags=["Inference"],
)
transcription = _operation(
    "createTranscription",
    f"The text, in the format that was asked for{EVENTS_TOO}",
    ANYTHING,
    _object(("file", "model"), **SOUND, language=TEXT, stream=FLAG),
    takes=FORM,
    tags=["Inference"],
)
translation = _operation(
    "createTranslation",
    "The text in English, in the format that was asked for.",
    ANYTHING,
    _object(("file", "model"), **SOUND),
    takes=FORM,
    tags=["Inference"],
)
moderation = _operation(
    "createModeration",
    "One result for each input.",
    ANYTHING,
    _object(("model", "input"), model=TEXT, input={"oneOf": [TEXT, _list(TEXT), _list(ANYTHING)]}),
    tags=["Inference"],
)
rerank = _operation(
    "createRerank",
    "The documents' scores, best first.",
    ANYTHING,
    _object(
        ("model", "query", "documents"),
        model=TEXT,
        query=TEXT,
        documents=_list({"oneOf": [TEXT, ANYTHING]}),
        top_n=WHOLE,
        return_documents=FLAG,
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


def _ollama(id: str, answer: str, body: dict[str, Any] | None = None) -> Any:
    return _operation(f"ollama{id}", answer, ANYTHING, body, _object(("error",), error=TEXT), tags=["Ollama"])


PROMPTING = {
    "stream": {"type": "boolean", "default": True},
    "format": {"oneOf": [TEXT, ANYTHING]},
    "options": ANYTHING,
    "think": {"oneOf": [FLAG, TEXT]},
    "keep_alive": {"oneOf": [TEXT, NUMBER]},
}
LINES = "The answer: lines of JSON, the last one marked as `done`; with `stream` false a single record."
ollama_chat = _ollama(
    "Chat", LINES, _object(("model",), model=TEXT, messages=_list(ANYTHING), tools=_list(ANYTHING), **PROMPTING)
)
ollama_generate = _ollama(
    "Generate",
    LINES,
    _object(("model",), model=TEXT, prompt=TEXT, suffix=TEXT, system=TEXT, images=_list(TEXT), **PROMPTING),
)
ollama_embed = _ollama(
    "Embed",
    "One vector per text.",
    _object(("model",), model=TEXT, input={"oneOf": [TEXT, _list(TEXT)]}, dimensions=WHOLE),
)
ollama_embeddings = _ollama(
    "Embeddings", "One vector, in the older form.", _object(("model",), model=TEXT, prompt=TEXT)
)
ollama_tags = _ollama("Tags", "The models this key may use.")
ollama_ps = _ollama("Ps", "The models that something serves.")
ollama_show = _ollama("Show", "What the model can do.", _object(("model",), model=TEXT))
ollama_version = _ollama("Version", "The release of Ollama whose API this follows.")
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


def summarized(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A view says what it does in a sentence, which belongs beside its path."""
    for operation in (each for operations in result["paths"].values() for each in operations.values()):
        operation["summary"] = " ".join(operation.pop("description", "").split()).rstrip(".")
    return result
