"""Answers as JSON of a given form: `{"answer": …}`, or a schema with one place for it.

The search goes on as ever; what its candidates agree on is put into the form at the end. A schema
may say of that one property what JSON Schema says of strings, numbers and enumerations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from router.service.errors import ServiceError
from router.strategies.tasks.normal import normal
from router.strategies.tasks.numbers import number

_REMARKS: Final = frozenset(
    {"$comment", "$defs", "$id", "$schema", "default", "definitions", "description", "examples"}
    | {"title"}
)
_OF_OBJECTS: Final = _REMARKS | {"type", "properties", "required", "additionalProperties"}
_LIMITS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "maxLength": lambda value, limit: len(value) <= limit,
}
_LENGTHS: Final = ("minLength", "maxLength")
_TYPES: Final = ("string", "integer", "number")
_LONGEST: Final = 400
"""Characters of an answer that may be a number."""

_NESTED: Final = 8
"""References and alternatives that are followed to a property's own schema."""

Value = str | int | float


@dataclass(frozen=True)
class Form:
    """Where the answer goes.

    place: the property's name. type: one of `string`, `integer`, `number`, or None for any.
    options: the values that it may have, empty for all. limits: JSON Schema's, by keyword.
    """

    place: str = "answer"
    type: str | None = "string"
    options: tuple[Value, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()

    def filled(self, answer: str | None) -> str | None:
        """The JSON text of the object that holds this answer; None where it does not fit."""
        value = None if answer is None else self._value(answer.strip())
        if value is None or not all(self._within(value, *limit) for limit in self.limits):
            return None
        return json.dumps({self.place: value})

    def _value(self, answer: str) -> Value | None:
        if self.options:
            return next((option for option in self.options if _same(option, answer)), None)
        if self.type == "string":
            return answer
        exact = _number(answer)
        if exact is None or (self.type == "integer" and exact.denominator != 1):
            return None
        try:
            return exact.numerator if exact.denominator == 1 else float(exact)
        except OverflowError:
            return None

    def _within(self, value: Value, keyword: str, limit: float) -> bool:
        if isinstance(value, str) != (keyword in _LENGTHS):
            return True  # a keyword of another type says nothing (JSON Schema 2020-12, sec. 6)
        return _LIMITS[keyword](value, limit)


def form_of(asked: Mapping[str, Any], where: str) -> Form | None:
    """The form that a client asks for; None for plain text.

    asked: `{}`, `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema",
    "schema": …}`. where: its field.

    Raises:
        ServiceError: the schema has no place for the answer, or says more than is understood.
    """
    match asked.get("type"):
        case "text" | None if "schema" not in asked:
            return None
        case "json_object":
            return Form()
        case "json_schema":
            return _place(asked.get("schema"), f"{where}.schema")
    raise _refused(f"{where}.type", "must be 'text', 'json_object' or 'json_schema'")


def _place(schema: Any, where: str) -> Form:
    root = _object(schema, where)
    _check_keywords(root, _OF_OBJECTS, where)
    properties = root.get("properties")
    if root.get("type") != "object" or not isinstance(properties, dict) or len(properties) != 1:
        raise _refused(
            where, "must be an object with one property for the answer: string, number or enum"
        )
    [(name, own)] = properties.items()
    required = root.get("required", [])
    if not isinstance(required, list) or not set(map(str, required)) <= {name}:
        raise _refused(f"{where}.required", f"may name {name!r} only")
    return _form(name, *_resolved(own, root, f"{where}.properties.{name}"))


def _form(name: str, own: dict[str, Any], where: str) -> Form:
    _check_keywords(own, _REMARKS | {"type", "enum", "const", *_LIMITS}, where)
    options = own.get("enum", [own["const"]] if "const" in own else [])
    kind = own.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    if not isinstance(options, list):
        raise _refused(f"{where}.enum", "must be a list")
    options = [one for one in options if one is not None]
    if not all(isinstance(one, Value) and not isinstance(one, bool) for one in options):
        raise _refused(f"{where}.enum", "may hold text and numbers only")
    if kind not in _TYPES and not (kind is None and options):
        raise _refused(where, "must be a string, a number, an integer or an enum")
    options = [one for one in options if _fits(one, kind)]
    limits = {word: own[word] for word in _LIMITS if word in own}
    for word, limit in limits.items():
        if not isinstance(limit, int | float) or isinstance(limit, bool):
            raise _refused(f"{where}.{word}", "must be a number")
    return Form(name, kind, tuple(options), tuple(limits.items()))


def _resolved(own: Any, root: dict[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """A property's own schema: references are followed, and `null` beside it is left out."""
    for _ in range(_NESTED):
        own = _object(own, where)
        if "$ref" in own:
            kind, _, name = str(own["$ref"]).removeprefix("#/").partition("/")
            known = root.get(kind) if kind in ("$defs", "definitions") else None
            if not isinstance(known, dict) or name not in known:
                raise _refused(f"{where}.$ref", "must name one of the schema's own $defs")
            own = known[name]
        elif "anyOf" in own:
            _check_keywords(own, _REMARKS | {"anyOf"}, where)
            several = own["anyOf"] if isinstance(own["anyOf"], list) else []
            others = [one for one in several if one != {"type": "null"}]
            if len(others) != 1:
                raise _refused(f"{where}.anyOf", "may offer one type, and null")
            own = others[0]
        else:
            return own, where
    raise _refused(f"{where}.$ref", "leads too far")


def _fits(option: Value, kind: str | None) -> bool:
    match kind:
        case "string":
            return isinstance(option, str)
        case "integer":
            return not isinstance(option, str) and float(option).is_integer()
        case "number":
            return not isinstance(option, str)
    return True


def _same(option: Value, answer: str) -> bool:
    if isinstance(option, str):
        return option.casefold() == answer.casefold()
    exact = _number(answer)
    return exact is not None and Fraction(str(option)) == exact


def _number(answer: str) -> Fraction | None:
    return number(normal(answer)) if len(answer) <= _LONGEST else None


def _object(schema: Any, where: str) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _refused(where, "must be an object")
    return schema


def _check_keywords(schema: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for word in schema:
        if word not in known:
            raise _refused(f"{where}.{word}", "is not understood here; leave it out")


def _refused(field: str, why: str) -> ServiceError:
    name = field[:200]
    return ServiceError(400, f"{name} {why}", "unsupported_value", name)
