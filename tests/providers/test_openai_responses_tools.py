"""Tools of Responses that other languages have no word for: namespaces, free text, and those that come as items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.conversation import Answer, Choice, Finished, TextDelta, ToolCall, ToolCallDelta, ToolChoice, Usage
from providers.languages.language import BadRequest, Stamp
from providers.languages.openai_responses_tools import flat_name, free_text
from providers.languages.registry import anthropic_messages, openai_chat, openai_responses
from providers.wire.frames import sse_data

Json = dict[str, Any]
STAMP = Stamp("7f", 1_700_000_000, "smart")
SPAWN: Json = {"type": "function", "name": "spawn_agent", "strict": False, "parameters": {"type": "object"}}
AGENTS: Json = {"type": "namespace", "name": "multi_agent_v1", "description": "Sub-agents.", "tools": [SPAWN]}
PATCH: Json = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"},
}
PLAIN: Json = {"type": "function", "name": "exec_command", "parameters": {"type": "object"}}
TEXT = '*** Begin Patch\n+"Grüezi"\n*** End Patch'


def asked(*tools: Json, **more: Any) -> Json:
    return {"model": "smart", "input": [{"role": "user", "content": "Go"}], "tools": list(tools), **more}


def frames_of(*events: Any, tools: tuple[Json, ...]) -> list[Json]:
    writer = openai_responses.writer(STAMP, False, openai_responses.parse_request(asked(*tools)))
    written = b"".join([*(writer.write(event) for event in events), writer.close()])
    return [json.loads(sse_data(frame) or b"") for frame in written.split(b"\n\n") if frame]


def test_a_function_of_a_namespace_has_a_longer_name_elsewhere() -> None:
    request = openai_responses.parse_request(asked(PLAIN, AGENTS))
    for language in (openai_chat, anthropic_messages):
        tools = language.write_request(request, "m")["tools"]
        named = [tool.get("name") or tool["function"]["name"] for tool in tools]
        assert named == ["exec_command", "multi_agent_v1__spawn_agent"]
        assert language.dropped(request, "m") == []


def test_a_tool_that_takes_text_is_a_function_of_one_string_elsewhere() -> None:
    request = openai_responses.parse_request(asked(PATCH))
    (tool,) = openai_chat.write_request(request, "m")["tools"]
    assert tool["function"]["parameters"]["required"] == ["input"]
    assert (
        tool["function"]["description"]
        == "Edits files.\n\nThe input must follow this lark grammar:\nstart: begin_patch"
    )


def test_tools_that_come_as_an_item_are_tools() -> None:
    body = asked(PLAIN)
    body["input"].insert(0, {"type": "additional_tools", "role": "developer", "tools": [AGENTS, PATCH]})
    request = openai_responses.parse_request(body)
    assert [tool.name for tool in request.tools] == ["exec_command", "multi_agent_v1__spawn_agent", "apply_patch"]
    assert [message.role for message in request.messages] == ["user"]


def test_a_call_comes_back_as_the_caller_declared_it() -> None:
    request = openai_responses.parse_request(asked(PLAIN, AGENTS, PATCH))
    calls = (
        ToolCall("call_1", "exec_command", '{"cmd":"ls"}'),
        ToolCall("call_2", "multi_agent_v1__spawn_agent", '{"task":"x"}'),
        ToolCall("call_3", "apply_patch", json.dumps({"input": TEXT})),
    )
    answer = Answer((Choice(calls, "tool_calls"),), Usage(1, 2))
    document = json.loads(openai_responses.write_answer(answer, STAMP, request))
    for item in document["output"]:
        assert item.pop("id")
        assert item.pop("status") == "completed"
    assert document["output"] == [
        {"type": "function_call", "call_id": "call_1", "name": "exec_command", "arguments": '{"cmd":"ls"}'},
        {
            "type": "function_call",
            "call_id": "call_2",
            "name": "spawn_agent",
            "namespace": "multi_agent_v1",
            "arguments": '{"task":"x"}',
        },
        {"type": "custom_tool_call", "call_id": "call_3", "name": "apply_patch", "input": TEXT},
    ]
    assert document["tools"][1:] == [AGENTS, PATCH]


def test_a_streamed_call_that_takes_text_tells_it_once_it_is_whole() -> None:
    arguments = json.dumps({"input": TEXT})
    frames = frames_of(
        TextDelta("Now."),
        ToolCallDelta(0, "call_1", "apply_patch", arguments[:9]),
        ToolCallDelta(0, arguments=arguments[9:]),
        Finished("tool_calls"),
        tools=(PATCH,),
    )
    kinds = [frame["type"] for frame in frames]
    assert kinds[-5:] == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "response.function_call_arguments.delta" not in kinds
    added, delta, done, item, completed = frames[-5:]
    assert added["item"]["type"] == "custom_tool_call"
    assert added["item"]["input"] == ""
    assert delta["delta"] == done["input"] == item["item"]["input"] == TEXT
    assert completed["response"]["output"][-1] == item["item"]
    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))


def test_a_streamed_call_into_a_namespace_names_it() -> None:
    frames = frames_of(
        ToolCallDelta(0, "call_1", "multi_agent_v1__spawn_agent", "{}"), Finished("tool_calls"), tools=(AGENTS,)
    )
    items = [frame["item"] for frame in frames if "item" in frame]
    assert [(item["name"], item["namespace"]) for item in items] == [("spawn_agent", "multi_agent_v1")] * 2


def test_calls_and_their_results_are_read_back() -> None:
    body = asked(AGENTS, PATCH)
    body["input"] += [
        {
            "type": "function_call",
            "call_id": "a",
            "namespace": "multi_agent_v1",
            "name": "spawn_agent",
            "arguments": "{}",
        },
        {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch", "input": TEXT},
        {"type": "function_call_output", "call_id": "a", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "Success."},
    ]
    request = openai_responses.parse_request(body)
    assert request.messages[1].parts == (
        ToolCall("a", "multi_agent_v1__spawn_agent", "{}"),
        ToolCall("b", "apply_patch", json.dumps({"input": TEXT}, ensure_ascii=False, separators=(",", ":"))),
    )
    written = openai_responses.write_request(request, "m")["input"]
    assert [item["type"] for item in written[1:]] == [item["type"] for item in body["input"][1:]]
    assert written[2]["input"] == TEXT


def test_a_tool_can_be_chosen_by_the_callers_name_for_it() -> None:
    for choice, name in (
        ({"type": "custom", "name": "apply_patch"}, "apply_patch"),
        ({"type": "function", "namespace": "multi_agent_v1", "name": "spawn_agent"}, "multi_agent_v1__spawn_agent"),
    ):
        request = openai_responses.parse_request(asked(PATCH, AGENTS, tool_choice=choice))
        assert request.tool_choice == ToolChoice("tool", name)
        assert openai_responses.write_request(request, "m")["tool_choice"] == choice


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"input":"a\\nb"}', "a\nb"), ('{"patch":"x"}', '{"patch":"x"}'), ("not JSON", "not JSON"), ("", ""),
     ('{"input":5}', '{"input":5}'), ("[1]", "[1]")],
)  # fmt: skip
def test_what_a_model_wrote_instead_of_text_is_not_lost(arguments: str, text: str) -> None:
    assert free_text(arguments) == text


def test_no_name_is_too_long_or_lost() -> None:
    assert flat_name("mcp__github__", "search") == "mcp__github__search"
    long = [flat_name("a" * 60, name) for name in ("search", "search_more")]
    assert all(len(name) == 64 for name in long)
    assert len(set(long)) == 2


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "custom"}, "tools[0]"),
        ({"type": "namespace", "name": "x"}, "tools[0]"),
        ({"type": "namespace", "name": "x", "tools": [{"type": "function"}]}, "tools[0].tools[0]"),
        ({"type": "namespace", "name": "x", "tools": [AGENTS]}, "tools[0].tools[0]"),
    ],
)
def test_a_tool_that_is_not_whole_is_refused_by_its_place(tool: Json, param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        openai_responses.parse_request(asked(tool))
    assert refusal.value.param == param


def test_a_field_of_the_callers_own_is_no_tool() -> None:
    request = openai_responses.parse_request(asked(PLAIN, **{"tools.web_search": 5, "tools.x": "abc"}))
    assert [tool["type"] for tool in openai_responses.write_request(request, "m")["tools"]] == ["function"]
    assert json.loads(openai_responses.write_answer(Answer((Choice((), "stop"),)), STAMP, request))["tools"]
    assert openai_chat.dropped(request, "m") == []


def test_tools_that_come_as_an_item_are_needed_too() -> None:
    body = asked()
    body["input"].append({"type": "additional_tools", "tools": [PLAIN]})
    assert openai_responses.needs(body) == {"tools": "input[1].tools"}


@pytest.mark.parametrize("kind", ["function", "custom"])
def test_a_name_that_is_too_long_is_the_same_everywhere(kind: str) -> None:
    name = "f" * 70
    body = asked({"type": kind, "name": name}, tool_choice={"type": kind, "name": name})
    said = {"arguments": "{}"} if kind == "function" else {"input": "x"}
    item = "function_call" if kind == "function" else "custom_tool_call"
    body["input"].append({"type": item, "call_id": "a", "name": name, **said})
    request = openai_responses.parse_request(body)
    (call,) = request.messages[-1].parts
    assert isinstance(call, ToolCall)
    assert request.tools[0].name == call.name == flat_name("", name)
    assert request.tool_choice == ToolChoice("tool", call.name)
    written = openai_responses.write_request(request, "m")
    assert (written["tools"][0]["name"], written["tool_choice"]["name"], written["input"][-1]["name"]) == (name,) * 3


def test_a_call_without_any_name_is_told_once() -> None:
    frames = frames_of(ToolCallDelta(0, "call_1", None, '{"a":1}'), Finished("tool_calls"), tools=(PLAIN,))
    assert frames[-1]["response"]["output"][0]["arguments"] == '{"a":1}'


def test_a_thought_of_ours_is_known_by_its_seal_where_it_comes_without_an_id() -> None:
    """As Codex sends it back."""
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "swb1.eyJ0ZXh0IjoiSG0ifQ=="}
    body = {"model": "smart", "input": [{"role": "user", "content": "Hi"}, thought]}
    sent = openai_responses.readdress(body, openai_responses.peek(body), "gpt-5", True)
    assert sent["input"] == body["input"][:1]
