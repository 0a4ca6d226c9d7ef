"""The answer as JSON of a form that the client gives, and forms that have no place for one."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from router.service.errors import ServiceError
from router.service.structured import form_of
from tests.service.serving import Served


def schema(own: dict[str, Any], **further: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"answer": own}, "required": ["answer"], **further}


def filled(own: dict[str, Any], answer: str | None, **further: Any) -> Any:
    """What the schema's property holds for an answer; it is checked against the schema."""
    whole = schema(own, **further)
    form = form_of({"type": "json_schema", "schema": whole}, "format")
    assert form is not None
    text = form.filled(answer)
    if text is None:
        return None
    jsonschema.validate(json.loads(text), whole)
    return json.loads(text)["answer"]


@pytest.mark.parametrize(
    ("own", "answer", "value"),
    [
        ({"type": "string"}, "x + 1", "x + 1"),
        ({"type": "string", "maxLength": 3}, "x + 1", None),
        ({"type": "string", "minLength": 3, "maxLength": 5}, "x + 1", "x + 1"),
        ({"type": "integer"}, "54", 54),
        ({"type": "integer"}, "1,234", 1234),
        ({"type": "integer"}, "-7", -7),
        ({"type": "integer"}, "2.50", None),
        ({"type": "integer"}, "2.0", 2),
        ({"type": "integer"}, "\\frac{6}{3}", 2),
        ({"type": "integer", "minimum": 0, "maximum": 10}, "11", None),
        ({"type": "integer", "exclusiveMinimum": 10}, "11", 11),
        ({"type": "number"}, "\\frac{3}{4}", 0.75),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, "54", 54),
        ({"type": "number", "exclusiveMaximum": 2.5}, "2.5", None),
        ({"type": "number"}, "x + 1", None),
        ({"type": "number"}, "1e999", 10**999),
        ({"type": "number"}, "9" * 5000, None),
        ({"type": ["number", "null"]}, "54", 54),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, "54", 54),
        ({"enum": ["A", "B"]}, "b", "B"),
        ({"enum": ["A", "B"], "type": "string"}, "C", None),
        ({"enum": [1, 2, 3], "type": "integer"}, "2", 2),
        ({"enum": ["1", "2"]}, "2", "2"),
        ({"const": "yes"}, "Yes", "yes"),
        ({"type": "string", "title": "Answer", "description": "The answer."}, "7", "7"),
        ({"type": "string"}, None, None),
        ({"type": "number"}, None, None),
    ],
    ids=str,
)
def test_answers_in_the_type_of_the_schema(
    own: dict[str, Any], answer: str | None, value: object
) -> None:
    found = filled(own, answer)
    assert found == value
    assert type(found) is type(value)


def test_definitions_are_followed() -> None:
    further = {"$defs": {"Letter": {"enum": ["A", "B"], "type": "string"}}}
    assert filled({"$ref": "#/$defs/Letter"}, "B", **further) == "B"


@pytest.mark.parametrize(
    ("whole", "field"),
    [
        (None, "f.schema"),
        ([], "f.schema"),
        ({"type": "string"}, "f.schema"),
        ({"type": "object"}, "f.schema"),
        ({"type": "object", "properties": {}}, "f.schema"),
        ({"type": "object", "properties": {"a": {}, "b": {}}}, "f.schema"),
        (schema({}), "f.schema.properties.answer"),
        (schema({"type": "boolean"}), "f.schema.properties.answer"),
        (schema({"type": "array"}), "f.schema.properties.answer"),
        (schema({"type": "object"}), "f.schema.properties.answer"),
        (schema({"type": "string", "pattern": "(a+)+b"}), "f.schema.properties.answer.pattern"),
        (schema({"type": "string", "format": "date"}), "f.schema.properties.answer.format"),
        (schema({"type": "number", "minimum": "x"}), "f.schema.properties.answer.minimum"),
        (schema({"enum": [True]}), "f.schema.properties.answer.enum"),
        (schema({"enum": "AB"}), "f.schema.properties.answer.enum"),
        (schema({"$ref": "https://x.example"}), "f.schema.properties.answer.$ref"),
        (schema({"$ref": "#/$defs/A"}), "f.schema.properties.answer.$ref"),
        (
            schema({"$ref": "#/$defs/A"}, **{"$defs": {"A": {"$ref": "#/$defs/A"}}}),
            "f.schema.properties.answer.$ref",
        ),
        (
            schema({"anyOf": [{"type": "string"}, {"type": "number"}]}),
            "f.schema.properties.answer.anyOf",
        ),
        ({**schema({"type": "string"}), "allOf": []}, "f.schema.allOf"),
        ({**schema({"type": "string"}), "required": ["other"]}, "f.schema.required"),
    ],
    ids=str,
)
def test_schemas_without_a_place_for_the_answer(whole: object, field: str) -> None:
    with pytest.raises(ServiceError) as caught:
        form_of({"type": "json_schema", "schema": whole}, "f")
    assert (caught.value.status, caught.value.param) == (400, field)
    assert field in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_the_chat_api_gives_json(service: Served, stream: bool) -> None:
    wanted = {"name": "sum", "strict": True, "schema": schema({"type": "integer"})}
    asked = {"type": "json_schema", "json_schema": wanted}
    assert content(service, stream, response_format=asked) == '{"answer": 54}'
    assert content(service, stream, response_format={"type": "json_object"}) == '{"answer": "54"}'


def test_an_answer_that_does_not_fit_is_no_answer(service: Served) -> None:
    wanted = {"name": "sum", "schema": schema({"type": "integer", "maximum": 3})}
    asked = {"type": "json_schema", "json_schema": wanted}
    answer = service.chat(response_format=asked, router={"budget": 2}).json()
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"] == "the search found no answer that fits the schema"
    assert answer["usage"]["completion_tokens"] > 0


def content(service: Served, stream: bool, **body: Any) -> str:
    if not stream:
        answer = service.chat(**body).json()
        return str(answer["choices"][0]["message"]["content"])
    lines = service.chat(stream=True, **body).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line[:7] == "data: {"]
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
