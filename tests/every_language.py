"""The languages of callers, what is expected of each over each system, and the matrix in docs/languages.md.

python -m tests.every_language       # writes the matrix anew
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests import every_provider
from tests.every_provider import BEGIN, END, SYSTEMS, Cell, Dropped, No, Nothing, System, documented
from tests.fakes.scenes import PICTURE, TWO_CALLS
from tests.fakes.server import Json
from tests.live import wire
from tests.live.server import Gateway
from tests.live.wire import Answer

__all__ = ["documented"]

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "languages.md"
HELLO = "Grüezi!"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "when": {"type": ["string", "null"]}},
    "required": ["city"],
}
SCHEMA = {
    "type": "object",
    "properties": {"given_name_of_ada": {"type": "string"}},
    "required": ["given_name_of_ada"],
    "additionalProperties": False,
}
FUNCTION = {"name": "rain", "description": "Whether it rains.", "parameters": PARAMETERS}
RESULTS = ("It pours in Bärn.", '{"dry": true}')

# Rows of the matrix, and the row of the providers' matrix that each follows.
ROWS = {
    "whole": "whole",
    "streamed": "streamed",
    "tools": "two calls of tools at once",
    "results": "results of tools",
    "image": "image",
    "schema": "JSON schema",
    "thinking": "thinking",
    "signed": "signed thinking sent back",
    "stop": "stop sequences",
    "usage": "tokens counted",
    "length": "end at the limit",
    "error first": "error before the first word",
    "error later": "error after it",
}
FOLLOWS = {"usage": "whole", "signed": "results"}


# ------------------------------------------------------------------------------------------------ answers


@dataclass
class Said:
    """An answer in any language, put together again; `end` and `usage` are in the language's own words."""

    text: str = ""
    thinking: str = ""
    calls: list[Json] = field(default_factory=list)  # id, name, arguments as an object
    end: str = ""
    usage: tuple[int, ...] = ()  # input, output, and where the language has a word for it what came from a cache
    error: str = ""
    complete: bool = False
    pieces: int = 0  # events that carried something
    turn: Any = None  # what is sent back of it
    headers: Mapping[str, str] = field(default_factory=dict)


class Spoken:
    """A language as its clients speak it: how each wish is written, and how answers are read strictly."""

    name: ClassVar[str]
    path: ClassVar[str]
    streams_as: ClassVar[str] = "text/event-stream; charset=utf-8"
    lacks: ClassVar[Mapping[str, str]] = {}  # row -> why the language cannot have it
    words: ClassVar[Mapping[str, str]] = {}  # its names for what chat calls otherwise
    ends: ClassVar[tuple[str, str, str]]  # of an answer that is over, that calls tools, and that was too long
    counts_cached: ClassVar[bool] = True

    def ask(self, text: str = HELLO) -> Json:
        raise NotImplementedError

    def limited(self, tokens: int) -> Json:
        return {"max_tokens": tokens}

    def tools(self) -> Json:
        raise NotImplementedError

    def results(self, turn: Any) -> Json:
        """The conversation after an answer that called two tools, with what they said."""
        raise NotImplementedError

    def image(self) -> Json:
        raise NotImplementedError

    def schema(self) -> Json:
        raise NotImplementedError

    def thinking(self) -> Json:
        raise NotImplementedError

    def stop(self, *sequences: str) -> Json:
        return {"stop": list(sequences)}

    def called(self) -> Any:
        """The turn that calls both tools, as a client that was not told it by this gateway sends it."""
        raise NotImplementedError

    def whole(self, document: Json) -> Said:
        raise NotImplementedError

    def folded(self, frames: list[bytes]) -> Said:
        """Checks that the events come in the language's own order."""
        raise NotImplementedError

    def error_of(self, answer: Answer) -> tuple[str, str]:
        """What an error says, and the field that it names."""
        raise NotImplementedError


def data_of(frame: bytes) -> str:
    lines = frame.decode().splitlines()
    [data] = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return data


def named_events(frames: list[bytes]) -> list[Json]:
    """Events whose `event:` says what their `type` does."""
    events = []
    for frame in frames:
        event = json.loads(data_of(frame))
        assert frame.startswith(b"event: " + event["type"].encode() + b"\n"), frame
        events.append(event)
    return events


def calls_of(*calls: tuple[str, str, str]) -> list[Json]:
    return [{"id": id, "name": name, "arguments": json.loads(arguments)} for id, name, arguments in calls]


class OpenAIStyle(Spoken):
    def error_of(self, answer: Answer) -> tuple[str, str]:
        error = answer.error
        return error["message"], error["param"] or ""


class Chat(OpenAIStyle):
    name = "OpenAI Chat"
    path = "/v1/chat/completions"
    lacks = {"signed": "Chat shows thoughts as plain text, which has no place for a signature."}
    ends = ("stop", "tool_calls", "length")

    def ask(self, text: str = HELLO) -> Json:
        return {"messages": [{"role": "user", "content": text}], "stream_options": {"include_usage": True}}

    def tools(self) -> Json:
        return {"tools": [{"type": "function", "function": FUNCTION}]}

    def results(self, turn: Any) -> Json:
        answers = [
            {"role": "tool", "tool_call_id": call["id"], "content": said}
            for call, said in zip(turn["tool_calls"], RESULTS, strict=True)
        ]
        return {"messages": [*self.ask()["messages"], turn, *answers]}

    def called(self) -> Any:
        calls = [
            {
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for id, name, arguments in TWO_CALLS
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def image(self) -> Json:
        url = {"url": f"data:image/png;base64,{PICTURE}"}
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
        return {"messages": [{"role": "user", "content": parts}]}

    def schema(self) -> Json:
        wish = {"name": "person", "strict": True, "schema": SCHEMA}
        return {"response_format": {"type": "json_schema", "json_schema": wish}}

    def thinking(self) -> Json:
        return {"reasoning_effort": "low"}

    def whole(self, document: Json) -> Said:
        assert document["object"] == "chat.completion"
        [choice] = document["choices"]
        message = choice["message"]
        said = Said(message.get("content") or "", message.get("reasoning_content") or "", complete=True, turn=message)
        said.calls = [
            {"id": each["id"], "name": each["function"]["name"], "arguments": json.loads(each["function"]["arguments"])}
            for each in message.get("tool_calls") or []
        ]
        said.end, said.usage = choice["finish_reason"], openai_usage(document["usage"])
        return said

    def folded(self, frames: list[bytes]) -> Said:
        said, made = Said(), every_provider.Folded()
        for frame in frames:
            assert not said.complete, "something came after [DONE]"
            data = data_of(frame)
            if data == "[DONE]":
                said.complete = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                said.error = chunk["error"]["message"]
                continue
            assert not said.usage, "the counts come last"
            assert chunk["choices"] or chunk["usage"]
            if made.finish and chunk["choices"]:
                raise AssertionError("something came after the finish reason")
            made.add(chunk)
            if made.usage:
                assert made.finish, "the counts come after the finish reason"
                said.usage = openai_usage(made.usage)
        said.text, said.thinking, said.pieces = made.text, made.thinking, made.contents
        said.end = "".join(made.finish)
        if said.complete:
            said.calls = calls_of(*[(each["id"], each["name"], each["arguments"]) for each in made.calls])
        return said


def openai_usage(usage: Json) -> tuple[int, ...]:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return usage["prompt_tokens"], usage["completion_tokens"], cached


NO_WORD = "A legacy completion is a prompt and its continuation: its language has no word for it."


class Completions(OpenAIStyle):
    name = "OpenAI Completions"
    path = "/v1/completions"
    lacks = dict.fromkeys(["tools", "results", "image", "schema", "thinking", "signed"], NO_WORD)
    words = {"messages": "prompt"}
    ends = ("stop", "", "length")

    def ask(self, text: str = HELLO) -> Json:
        return {"prompt": text, "stream_options": {"include_usage": True}}

    def whole(self, document: Json) -> Said:
        assert document["object"] == "text_completion"
        [choice] = document["choices"]
        usage = openai_usage(document["usage"])
        return Said(choice["text"], end=choice["finish_reason"], usage=usage, complete=True)

    def folded(self, frames: list[bytes]) -> Said:
        said = Said()
        for frame in frames:
            assert not said.complete, "something came after [DONE]"
            data = data_of(frame)
            if data == "[DONE]":
                said.complete = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                said.error = chunk["error"]["message"]
                continue
            assert chunk["object"] == "text_completion"
            if chunk.get("usage"):
                assert said.end, "the counts come after the finish reason"
                said.usage = openai_usage(chunk["usage"])
            for choice in chunk["choices"]:
                assert not said.end, "something came after the finish reason"
                said.text += choice["text"]
                said.pieces += bool(choice["text"])
                said.end = choice["finish_reason"] or ""
        return said


class Responses(OpenAIStyle):
    name = "OpenAI Responses"
    path = "/v1/responses"
    lacks = {"stop": "Responses has no field for stop sequences."}
    words = {
        "messages": "input",
        "messages[0].content": "input[0].content",
        "response_format": "text.format",
        "reasoning_effort": "reasoning.effort",
    }
    ends = ("completed", "completed", "incomplete: max_output_tokens")

    def ask(self, text: str = HELLO) -> Json:
        return {"input": text, "store": False}

    def limited(self, tokens: int) -> Json:
        return {"max_output_tokens": tokens}

    def tools(self) -> Json:
        return {"tools": [{"type": "function", **FUNCTION, "strict": False}]}

    def results(self, turn: Any) -> Json:
        calls = [item for item in turn if item["type"] == "function_call"]
        answers = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": said}
            for call, said in zip(calls, RESULTS, strict=True)
        ]
        return {"input": [{"role": "user", "content": HELLO}, *turn, *answers]}

    def called(self) -> Any:
        return [
            {
                "type": "function_call",
                "call_id": id,
                "name": name,
                "arguments": arguments,
            }
            for id, name, arguments in TWO_CALLS
        ]

    def image(self) -> Json:
        url = f"data:image/png;base64,{PICTURE}"
        parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url}]
        return {"input": [{"role": "user", "content": parts}]}

    def schema(self) -> Json:
        return {"text": {"format": {"type": "json_schema", "name": "person", "strict": True, "schema": SCHEMA}}}

    def thinking(self) -> Json:
        return {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]}

    def whole(self, document: Json) -> Said:
        assert document["object"] == "response"
        said = Said(complete=True, turn=document["output"])
        for item in document["output"]:
            self.add_item(said, item)
        reason = document["incomplete_details"]
        said.end = document["status"] + (f": {reason['reason']}" if reason else "")
        usage = document["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        cached = usage["input_tokens_details"]["cached_tokens"]
        said.usage = usage["input_tokens"], usage["output_tokens"], cached
        return said

    def add_item(self, said: Said, item: Json) -> None:
        match item["type"]:
            case "message":
                said.text += "".join(part["text"] for part in item["content"])
            case "reasoning":
                said.thinking += "".join(part["text"] for part in item["summary"])
            case "function_call":
                said.calls += calls_of((item["call_id"], item["name"], item["arguments"]))
            case kind:
                raise AssertionError(kind)

    def folded(self, frames: list[bytes]) -> Said:
        events = named_events(frames)
        assert [event.get("sequence_number") for event in events] == list(range(len(events)))
        kinds = [event["type"].removeprefix("response.") for event in events]
        assert kinds[:2] == ["created", "in_progress"]
        assert all("response" not in event for event in events[2:-1]), "nothing comes after the end"
        told: dict[int, str] = {}  # what the pieces of an item said
        open_items: set[int] = set()
        done: dict[int, Json] = {}
        partial = Said()
        for kind, event in zip(kinds, events, strict=True):
            index = event.get("output_index", -1)
            if kind == "output_item.added":
                assert index == len(told), "items are numbered as they begin"
                told[index] = ""
                open_items.add(index)
            elif kind == "output_item.done":
                open_items.remove(index)
                done[index] = event["item"]
            elif index >= 0:
                assert index in open_items, f"{kind} of an item that is not open"
            if kind.endswith(".delta"):
                told[index] += event["delta"]
                partial.pieces += 1
                partial.text += event["delta"] if kind == "output_text.delta" else ""
        if kinds[-1] in ("failed", "error"):
            partial.error = events[-1]["response"]["error"]["message"]
            return partial
        assert not open_items, "an item was left open"
        response = events[-1]["response"]
        assert kinds[-1] == response["status"]
        assert [done[index] for index in sorted(done)] == response["output"]
        for index, item in done.items():
            alone = Said()
            self.add_item(alone, item)
            assert told[index] == (alone.text or alone.thinking or item.get("arguments", "")), (
                "the pieces are the whole"
            )
        said = self.whole(response)
        said.pieces = partial.pieces
        return said


class Messages(Spoken):
    name = "Anthropic Messages"
    path = "/v1/messages"
    words = {
        "response_format": "output_config.format",
        "reasoning_effort": "thinking",
        "stop": "stop_sequences",
    }
    ends = ("end_turn", "tool_use", "max_tokens")

    def ask(self, text: str = HELLO) -> Json:
        return {"messages": [{"role": "user", "content": text}], "max_tokens": 4096}

    def tools(self) -> Json:
        return {"tools": [{"name": "rain", "description": FUNCTION["description"], "input_schema": PARAMETERS}]}

    def results(self, turn: Any) -> Json:
        calls = [block for block in turn if block["type"] == "tool_use"]
        answers = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": said}
            for call, said in zip(calls, RESULTS, strict=True)
        ]
        turns = [{"role": "assistant", "content": turn}, {"role": "user", "content": answers}]
        return {"messages": [*self.ask()["messages"], *turns]}

    def called(self) -> Any:
        return [{"type": "tool_use", "id": id, "name": name, "input": arguments} for id, name, arguments in CALLED]

    def image(self) -> Json:
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        blocks = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
        return {"messages": [{"role": "user", "content": blocks}]}

    def schema(self) -> Json:
        return {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}

    def thinking(self) -> Json:
        return {"thinking": {"type": "enabled", "budget_tokens": 1024}}

    def stop(self, *sequences: str) -> Json:
        return {"stop_sequences": list(sequences)}

    def whole(self, document: Json) -> Said:
        assert (document["type"], document["role"]) == ("message", "assistant")
        said = Said(complete=True, turn=document["content"])
        for block in document["content"]:
            match block["type"]:
                case "text":
                    said.text += block["text"]
                case "thinking":
                    said.thinking += block["thinking"]
                case "tool_use":
                    said.calls.append({"id": block["id"], "name": block["name"], "arguments": block["input"]})
                case kind:
                    raise AssertionError(kind)
        said.end = document["stop_reason"]
        usage = document["usage"]
        cached = usage["cache_read_input_tokens"]
        prompt = usage["input_tokens"] + cached + usage["cache_creation_input_tokens"]
        said.usage = prompt, usage["output_tokens"], cached
        return said

    def folded(self, frames: list[bytes]) -> Said:
        events = [event for event in named_events(frames) if event["type"] != "ping"]
        partial, blocks, deltas = Said(), [], {"input": ""}
        message: Json = {}
        is_open = False
        for number, event in enumerate(events):
            assert (event["type"] == "message_start") is (number == 0)
            match event["type"]:
                case "message_start":
                    message = event["message"]
                case "content_block_start":
                    assert not is_open, "one block is open at a time"
                    assert event["index"] == len(blocks)
                    assert not message["stop_reason"]
                    is_open = True
                    blocks.append(dict(event["content_block"]))
                    deltas["input"] = ""
                case "content_block_delta":
                    assert is_open
                    assert event["index"] == len(blocks) - 1
                    partial.pieces += 1
                    partial.text += event["delta"].get("text", "")
                    add_delta(blocks[-1], event["delta"], deltas)
                case "content_block_stop":
                    assert event["index"] == len(blocks) - 1
                    is_open = False
                    if deltas["input"]:
                        blocks[-1]["input"] = json.loads(deltas["input"])
                case "message_delta":
                    assert not is_open
                    message |= {"stop_reason": event["delta"]["stop_reason"]}
                    message["usage"] = {**message["usage"], **event["usage"]}
                case "message_stop":
                    assert number == len(events) - 1
                case "error":
                    assert number == len(events) - 1
                    partial.error = event["error"]["message"]
                    return partial
        assert events[-1]["type"] == "message_stop"
        said = self.whole({**message, "content": blocks})
        said.pieces = partial.pieces
        return said

    def error_of(self, answer: Answer) -> tuple[str, str]:
        document = answer.json()
        assert set(document) == {"type", "error", "request_id"}
        assert (document["type"], set(document["error"])) == ("error", {"type", "message"})
        assert document["request_id"].replace("-", "") in answer.request_id.replace("-", "")
        return document["error"]["message"], ""


def add_delta(block: Json, delta: Json, inputs: dict[str, str]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            inputs["input"] += delta["partial_json"]
        case kind:
            raise AssertionError(kind)


class OllamaStyle(Spoken):
    streams_as = "application/x-ndjson"
    words = {
        "stop": "options.stop",
        "response_format": "format",
        "reasoning_effort": "think",
        "messages[0].content": "messages[0].images",
    }
    ends = ("stop", "stop", "length")
    counts_cached = False

    def limited(self, tokens: int) -> Json:
        return {"options": {"num_predict": tokens}}

    def schema(self) -> Json:
        return {"format": SCHEMA}

    def thinking(self) -> Json:
        return {"think": "low"}

    def stop(self, *sequences: str) -> Json:
        return {"options": {"stop": list(sequences)}}

    def said_in(self, record: Json) -> Json:
        raise NotImplementedError

    def whole(self, document: Json) -> Said:
        return self.records([document])

    def folded(self, frames: list[bytes]) -> Said:
        return self.records([json.loads(frame) for frame in frames])

    def records(self, records: list[Json]) -> Said:
        said = Said()
        for record in records:
            assert not said.complete, "something came after the record that is done"
            if "error" in record:
                said.error = record["error"]
                continue
            assert record["model"]
            assert record["created_at"].endswith("Z")
            inner = self.said_in(record)
            said.text += inner["text"]
            said.thinking += inner.get("thinking", "")
            said.pieces += bool(inner["text"] or inner.get("thinking") or inner.get("tool_calls"))
            for call in inner.get("tool_calls") or []:
                said.calls.append({"id": call["id"], **call["function"]})
                del said.calls[-1]["index"]
            said.complete = record["done"]
            if record["done"]:
                said.end = record["done_reason"]
                said.usage = record["prompt_eval_count"], record["eval_count"]
        return said

    def error_of(self, answer: Answer) -> tuple[str, str]:
        document = answer.json()
        assert list(document) == ["error"]
        assert isinstance(document["error"], str)
        return document["error"], ""


UNSIGNED = "Ollama's formats show thoughts as plain text, which has no place for a signature."


class OllamaChat(OllamaStyle):
    name = "Ollama chat"
    path = "/api/chat"
    lacks = {"signed": UNSIGNED}

    def ask(self, text: str = HELLO) -> Json:
        return {"messages": [{"role": "user", "content": text}]}

    def tools(self) -> Json:
        return {"tools": [{"type": "function", "function": FUNCTION}]}

    def results(self, turn: Any) -> Json:
        answers = [
            {"role": "tool", "tool_name": call["function"]["name"], "tool_call_id": call["id"], "content": said}
            for call, said in zip(turn["tool_calls"], RESULTS, strict=True)
        ]
        return {"messages": [*self.ask()["messages"], turn, *answers]}

    def called(self) -> Any:
        calls = [{"id": id, "function": {"name": name, "arguments": arguments}} for id, name, arguments in CALLED]
        return {"role": "assistant", "content": "", "tool_calls": calls}

    def image(self) -> Json:
        return {"messages": [{"role": "user", "content": "What is this?", "images": [PICTURE]}]}

    def said_in(self, record: Json) -> Json:
        message = record["message"]
        assert message["role"] == "assistant"
        return {**message, "text": message["content"]}


class OllamaGenerate(OllamaStyle):
    name = "Ollama generate"
    path = "/api/generate"
    lacks = {
        "tools": "Ollama's generate takes a prompt and offers no tools.",
        "results": "Ollama's generate takes a prompt and offers no tools.",
        "signed": UNSIGNED,
    }
    words = {**OllamaStyle.words, "messages": "prompt", "messages[0].content": "images"}

    def ask(self, text: str = HELLO) -> Json:
        return {"prompt": text}

    def image(self) -> Json:
        return {"prompt": "What is this?", "images": [PICTURE]}

    def said_in(self, record: Json) -> Json:
        return {**record, "text": record["response"]}


CALLED = tuple((id, name, json.loads(arguments)) for id, name, arguments in TWO_CALLS)
LANGUAGES: tuple[Spoken, ...] = (Chat(), Completions(), Responses(), Messages(), OllamaChat(), OllamaGenerate())
BY_NAME = {language.name: language for language in LANGUAGES}


# ------------------------------------------------------------------------------------------- expectations

# Who signs thoughts, and in which languages the signature comes back; the other systems sign nothing.
SIGNING: Mapping[str, tuple[str, ...]] = {
    "OpenAI": ("OpenAI Responses",),
    "Anthropic": ("OpenAI Responses", "Anthropic Messages"),
    "Snowflake: Claude": ("OpenAI Responses", "Anthropic Messages"),
    "SAP: Claude": ("OpenAI Responses", "Anthropic Messages"),
}
UNSIGNING = Nothing("It does not sign its thoughts.")
LEGACY = Nothing("The endpoint's description shows no place for thoughts that are sent back.")
IN_CHAT = Nothing("It signs thoughts in Responses alone, and Messages is translated into Chat.")
EXCEPTIONS: Mapping[tuple[str, str, str], Cell] = {
    ("Snowflake, legacy: Claude", "OpenAI Responses", "signed"): LEGACY,
    ("Snowflake, legacy: Claude", "Anthropic Messages", "signed"): LEGACY,
    ("OpenAI", "Anthropic Messages", "signed"): IN_CHAT,
}


def expected(system: System, language: Spoken, row: str) -> Cell:
    """What the system can do, in the words of the language."""
    if row in language.lacks:
        return Nothing(language.lacks[row])
    if cell := EXCEPTIONS.get((system.name, language.name, row)):
        return cell
    if row == "signed" and language.name not in SIGNING.get(system.name, ()):
        return UNSIGNING
    match every_provider.expected(system, FOLLOWS.get(row, row)):
        case No(param):
            return No(language.words.get(param, param))
        case Dropped(name):
            return Dropped(language.words.get(name, name))
        case cell:
            return cell


def cells(row: str) -> list[System]:
    """The systems that have this in some language."""
    return [
        system
        for system in SYSTEMS
        if any(not isinstance(expected(system, language, row), Nothing) for language in LANGUAGES)
    ]


# ---------------------------------------------------------------------------------------------- the bench


def post(gateway: Gateway, language: Spoken, model: str, *wishes: Json, stream: bool = False) -> Answer:
    """One request, whole or streamed; later wishes have the last word."""
    body: Json = {"model": model, **language.ask()}
    for wish in wishes:
        body |= wish
    body["stream"] = stream
    if not stream:
        body.pop("stream_options", None)
    return wire.call(gateway, language.path, body)


def frames_of(answer: Answer) -> list[bytes]:
    """The events of a stream, without comments; in lines of JSON each line is one."""
    if answer.headers["content-type"] == "application/x-ndjson":
        return answer.body.splitlines()
    assert answer.body.endswith(b"\n\n"), "the last event is complete"
    return [frame for frame in answer.body.split(b"\n\n") if frame and not frame.startswith(b":")]


def said(gateway: Gateway, language: Spoken, model: str, *wishes: Json, stream: bool = False) -> Said:
    answer = post(gateway, language, model, *wishes, stream=stream)
    assert answer.status == 200, answer
    if stream:
        assert answer.headers["content-type"] == language.streams_as
        made = language.folded(frames_of(answer))
    else:
        made = language.whole(answer.json())
    made.headers = answer.headers
    return made


# --------------------------------------------------------------------------------------------- the matrix


def table(language: Spoken) -> str:
    rows = [row for row in ROWS if row not in language.lacks]
    head = ["", *(ROWS[row] for row in rows)]
    lines = [head, ["---"] * len(head)]
    lines += [[system.name, *(str(expected(system, language, row)) for row in rows)] for system in SYSTEMS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reasons(language: Spoken) -> str:
    """What the language cannot have, and why systems that have a dash have one."""
    found: dict[str, list[str]] = {}
    for row, reason in language.lacks.items():
        found.setdefault(reason, []).append(ROWS[row])
    for system in SYSTEMS:
        for row in ROWS:
            cell = expected(system, language, row)
            if row not in language.lacks and isinstance(cell, Nothing):
                who = f"{ROWS[row]} ({system.name})" if system.name in named(language, row, cell) else ROWS[row]
                found.setdefault(cell.reason, [])
                if who not in found[cell.reason]:
                    found[cell.reason].append(who)
    return "\n".join(
        every_provider.filled(f"* {', '.join(rows)}: {within_a_sentence(reason)}") for reason, rows in found.items()
    )


def within_a_sentence(reason: str) -> str:
    return reason if reason.startswith("Ollama") else reason[0].lower() + reason[1:]


def named(language: Spoken, row: str, cell: Nothing) -> list[str]:
    """The systems with this reason, where they are few enough to be named."""
    having = [system.name for system in SYSTEMS if expected(system, language, row) == cell]
    return having if len(having) < 4 else []


def matrix() -> str:
    parts = []
    for language in LANGUAGES:
        parts += [f"### {language.name}, `{language.path}`", table(language), reasons(language)]
    return "\n\n".join(part for part in parts if part)


def write_matrix() -> None:
    text = DOCUMENT.read_text()
    old = f"{BEGIN}{text.partition(BEGIN)[2].partition(END)[0]}{END}"
    DOCUMENT.write_text(text.replace(old, f"{BEGIN}\n{matrix()}\n{END}"))


if __name__ == "__main__":
    write_matrix()
    sys.stdout.write(f"Wrote {DOCUMENT}\n")
