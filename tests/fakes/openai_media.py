"""A strict server for what OpenAI has beyond words: images, sound, moderation; and reranking, as vLLM has it.

Shapes and wordings follow the API reference. `FakeMedia` has all that `FakeOpenAI` has as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from tests.fakes.openai import FIELDS, FakeOpenAI, Refused, check_input, missing, unique, wrong_type
from tests.fakes.scenes import PICTURE
from tests.fakes.server import Behaviour, Exchange, Gate, Heard, Json

SOUND = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(3000))  # 96 kB of all kinds of bytes
WORDS = ["Grüezi", " Zürich", ",", " wie", " gaht's?"]
IMAGE_USAGE = {
    "total_tokens": 150,
    "input_tokens": 50,
    "output_tokens": 100,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
SOUND_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 5,
    "total_tokens": 19,
}
SECONDS = {"type": "duration", "seconds": 3}
RERANK_TOKENS = 31

IMAGE = set(
    "background model n output_compression output_format partial_images prompt quality size stream user".split()
)
JSON_FIELDS = {
    "/v1/images/generations": IMAGE | {"moderation", "response_format", "style"},
    "/v1/audio/speech": set("input instructions model response_format speed stream_format voice".split()),
    "/v1/moderations": {"input", "model"},
    "/v1/rerank": set("documents model query top_n return_documents".split()),
}
FORM_FIELDS = {
    "/v1/images/edits": IMAGE | {"image", "image[]", "input_fidelity", "mask", "response_format"},
    "/v1/images/variations": {"image", "model", "n", "response_format", "size", "user"},
    "/v1/audio/transcriptions": set(
        "chunking_strategy file include[] language model prompt response_format stream temperature "
        "timestamp_granularities[]".split()
    ),
    "/v1/audio/translations": {"file", "model", "prompt", "response_format", "temperature"},
}
NEEDED = {
    "/v1/images/generations": ["prompt"],
    "/v1/images/edits": ["prompt"],
    "/v1/images/variations": ["image"],
    "/v1/audio/speech": ["input", "voice"],
    "/v1/audio/transcriptions": ["file"],
    "/v1/audio/translations": ["file"],
    "/v1/moderations": ["input"],
    "/v1/rerank": ["query", "documents"],
}
PARAMETER = re.compile(r';\s*([\w*]+)=(?:"([^"\\]*)"|([^\s";]+))')


@dataclass(frozen=True)
class Part:
    name: str
    filename: str | None
    head: bytes
    content: bytes


def parts_of(heard: Heard) -> list[Part]:
    """What RFC 7578 says a form is, and nothing else. Raises ValueError."""
    kind, _, boundary = heard.headers.get("content-type", "").partition("; boundary=")
    if kind != "multipart/form-data" or not boundary:
        raise ValueError(f"Content-Type: {heard.headers.get('content-type')}")
    first, *between, last = (b"\r\n" + heard.raw).split(b"\r\n--" + boundary.strip('"').encode())
    if first or last not in (b"--", b"--\r\n"):
        raise ValueError("the form does not begin or end with its boundary")
    return [_part(piece) for piece in between]


def _part(piece: bytes) -> Part:
    head, blank, content = piece.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"\r\n"):
        raise ValueError("a part without headers")
    lines = head[2:].decode().split("\r\n")
    told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kind, *_ = told["content-disposition"].split(";")
    if kind != "form-data" or len(told) != len(lines):
        raise ValueError(f"a part with these headers: {lines}")
    stated = {name: quoted or plain for name, quoted, plain in PARAMETER.findall(told["content-disposition"])}
    return Part(stated["name"], stated.get("filename", stated.get("filename*")), head[2:], content)


# ---------------------------------------------------------------------------------------------- answers


def events(*documents: Json, named: bool = True) -> list[bytes]:
    names = [f"event: {document['type']}\n".encode() if named else b"" for document in documents]
    return [name + b"data: " + json.dumps(each).encode() + b"\n\n" for name, each in zip(names, documents, strict=True)]


def streamed(frames: list[bytes], gate: Gate | None = None) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        exchange.start_stream()
        for number, frame in enumerate(frames, start=1):
            exchange.hold(lambda number=number: gate is None or gate.allowed >= number)  # type: ignore[misc]
            exchange.frame(frame)
        exchange.end()

    return behave


def images(exchange: Exchange) -> None:
    kind = "image_edit" if exchange.heard.path.endswith("edits") else "image_generation"
    if exchange.body.get("stream") in (True, "true"):
        partial = {"type": f"{kind}.partial_image", "b64_json": PICTURE, "partial_image_index": 0}
        completed = {"type": f"{kind}.completed", "b64_json": PICTURE, "usage": IMAGE_USAGE}
        streamed(events(partial, completed))(exchange)
        return
    data = [{"b64_json": PICTURE}] * int(exchange.body.get("n", 1))
    exchange.json(200, {"created": 1_700_000_000, "data": data, "usage": IMAGE_USAGE})


def speaks(gate: Gate | None = None, *, length: bool = False, cut: int | None = None) -> Behaviour:
    """The sound in pieces of 8 kB; a gate holds each back, `cut` ends the connection after so many."""

    def behave(exchange: Exchange) -> None:
        if exchange.body.get("stream_format") == "sse":
            deltas = [{"type": "speech.audio.delta", "audio": base64.b64encode(SOUND[:900]).decode()}] * 2
            streamed(events(*deltas, {"type": "speech.audio.done", "usage": SOUND_USAGE}, named=False))(exchange)
            return
        exchange.head(200, "audio/mpeg", length=len(SOUND) if length else None)
        for number, start in enumerate(range(0, len(SOUND), 8000), start=1):
            if cut is not None and number > cut:
                exchange.close()
                return
            exchange.hold(lambda number=number: gate is None or gate.allowed >= number)  # type: ignore[misc]
            exchange.send(SOUND[start : start + 8000]) if length else exchange.chunk(SOUND[start : start + 8000])
            exchange.heard.frames += 1
        if not length:
            exchange.end()

    return behave


def hears(gate: Gate | None = None) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        form = exchange.body.get("response_format", "json")
        if exchange.body.get("stream") == "true":
            deltas: list[Json] = [{"type": "transcript.text.delta", "delta": word} for word in WORDS]
            done = {"type": "transcript.text.done", "text": "".join(WORDS), "usage": SOUND_USAGE}
            streamed(events(*deltas, done, named=False), gate)(exchange)
        elif form == "json":
            exchange.json(200, {"text": "".join(WORDS), "usage": SOUND_USAGE})
        elif form == "verbose_json":
            exchange.json(
                200, {"task": "transcribe", "language": "de", "duration": 2.5, "text": "".join(WORDS), "usage": SECONDS}
            )
        else:
            exchange.whole(200, ("".join(WORDS) + "\n").encode(), "text/plain; charset=utf-8")

    return behave


def vllm_hears(exchange: Exchange) -> None:
    """vLLM streams a transcription as chunks that name the model, and ends with `[DONE]`."""
    chunks = [
        {
            "id": "trsc-1",
            "object": "transcription.chunk",
            "model": exchange.body["model"],
            "choices": [{"delta": {"content": word}}],
        }
        for word in WORDS
    ]
    streamed([*events(*chunks, named=False), b"data: [DONE]\n\n"])(exchange)


def moderates(exchange: Exchange) -> None:
    given = exchange.body["input"]
    verdict = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}
    results = [verdict] * (1 if isinstance(given, str) else len(given))
    exchange.json(200, {"id": "modr-1", "model": exchange.body["model"], "results": results})


def ranks(exchange: Exchange) -> None:
    documents = exchange.body["documents"]
    results = [
        {"index": index, "document": {"text": text}, "relevance_score": 0.9 - index / 10}
        for index, text in enumerate(documents)
    ]
    usage = {"total_tokens": RERANK_TOKENS}
    exchange.json(200, {"id": "rerank-1", "model": exchange.body["model"], "usage": usage, "results": results})


BY_PATH: dict[str, Behaviour] = {
    "/v1/images/generations": images,
    "/v1/images/edits": images,
    "/v1/images/variations": images,
    "/v1/audio/speech": speaks(),
    "/v1/audio/transcriptions": hears(),
    "/v1/audio/translations": hears(),
    "/v1/moderations": moderates,
    "/v1/rerank": ranks,
}
MODELS = ("paint", "say", "hear", "guard", "rank")


class FakeMedia(FakeOpenAI):
    paths = frozenset(FIELDS) | BY_PATH.keys()

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"models": MODELS, **options})

    def behaviour(self, heard: Heard) -> Behaviour:
        if heard.path not in BY_PATH:
            return super().behaviour(heard)
        self._check_head(heard)
        if heard.path in FORM_FIELDS:
            self._read_form(heard)
        else:
            self._read_json(heard)
        known = FORM_FIELDS.get(heard.path) or JSON_FIELDS[heard.path]
        for name in heard.body:
            if name not in known:
                raise Refused(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        if not isinstance(heard.body.get("model"), str):
            self.complain("The model is no text, or is not there.")
            raise missing("model")
        for name in NEEDED[heard.path]:
            if not heard.body.get(name):
                raise missing(name)
        if heard.path == "/v1/moderations":
            check_input(heard.body["input"])
        if scripted := self.scripted(heard.body["model"]):
            return scripted
        if heard.body["model"] not in self.models:
            raise Refused(404, f"The model `{heard.body['model']}` does not exist.", code="model_not_found")
        return BY_PATH[heard.path]

    def _read_form(self, heard: Heard) -> None:
        try:
            parts = parts_of(heard)
        except (ValueError, KeyError) as error:
            self.complain(f"The form cannot be read: {error}")
            raise Refused(400, "Could not parse multipart form") from error
        heard.body = {}
        for part in parts:
            if part.name in heard.body and not part.name.endswith("[]"):
                self.complain(f"The field {part.name} came twice.")
            heard.body[part.name] = part.content if part.filename is not None else part.content.decode()

    def _read_json(self, heard: Heard) -> None:
        if heard.headers.get("content-type") != "application/json":
            self.complain(f"Content-Type: {heard.headers.get('content-type')}")
        heard.body = json.loads(heard.raw, object_pairs_hook=unique)
        if not isinstance(heard.body, dict):
            raise wrong_type("body", "an object", heard.body)
