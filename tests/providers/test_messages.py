"""What formats with words alone in the results of tools make of pictures among them."""

from __future__ import annotations

import pytest

from providers.conversation import ChatRequest, Image, Message, Text, ToolCall, ToolResult
from providers.languages.messages import pictures_beside, without_pictures
from providers.languages.registry import LANGUAGES

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PICTURE = Image(f"data:image/png;base64,{PIXEL}")
ASKED = Message("user", (Text("What is on the screen?"),))
CALLS = Message("assistant", (ToolCall("a", "shoot", "{}"), ToolCall("b", "read", "{}")))
FIRST = Message("tool", (ToolResult("a", (Text("Taken."), PICTURE)),))
SECOND = Message("tool", (ToolResult("b", (PICTURE,)),))
LATER = Message("assistant", (Text("A cat."),))


def test_pictures_follow_behind_the_last_result_of_the_turn() -> None:
    assert pictures_beside([ASKED, CALLS, FIRST, SECOND, LATER]) == [
        ASKED,
        CALLS,
        Message("tool", (ToolResult("a", (Text("Taken."),)),)),
        Message("tool", (ToolResult("b", (Text("The picture follows."),)),)),
        Message("user", (Text("What the tool showed:"), PICTURE, PICTURE)),
        LATER,
    ]
    assert pictures_beside([ASKED, LATER]) == [ASKED, LATER]


def test_a_model_that_sees_none_is_told_so() -> None:
    (told,) = without_pictures([SECOND])
    assert told.parts == (ToolResult("b", (Text("A picture was here, which this model cannot see."),)),)
    assert without_pictures([ASKED, CALLS]) == (ASKED, CALLS)


@pytest.mark.parametrize("name", ["openai_chat", "azure_chat", "gemini", "ollama_chat", "cortex", "snowflake_openai"])
def test_a_picture_that_a_tool_has_shown_is_shown_to_the_model(name: str) -> None:
    """Or an agent's session would be over for good: the picture stays in its history."""
    request = ChatRequest("m", (ASKED, CALLS, FIRST, SECOND, LATER, Message("user", (Text("Sure?"),))))
    assert str(LANGUAGES[name].write_request(request, "m")).count(PIXEL) == 2
