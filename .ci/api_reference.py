"""The reference of the API as Markdown, from the OpenAPI schema."""  # noqa: INP001 - beside mkdocs.yml's other scripts

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

__all__ = ["render"]

Schema = dict[str, Any]

BEGINNING = """# API reference

Every route, from the OpenAPI schema, which a portal serves at `/api/schema/`.
[The API](api.md) explains what they have in common: authentication, pages, errors.
"""


def render() -> str:
    """Return the page."""
    schema = _schema()
    lines = [BEGINNING, "## Routes", ""]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            lines += _operation(method, path, operation)
    lines += ["## Objects", ""]
    for name, each in schema["components"]["schemas"].items():
        lines += _component(name, each)
    return "\n".join(lines)


def _schema() -> Schema:
    """Return the schema of the demo portal."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    import django  # noqa: PLC0415 - needs the variable
    from django.core.management.utils import get_random_secret_key  # noqa: PLC0415

    os.environ.setdefault("DJANGO_SECRET_KEY", get_random_secret_key())
    django.setup()
    from drf_spectacular.generators import SchemaGenerator  # noqa: PLC0415 - needs the settings

    schema: Schema = SchemaGenerator().get_schema(public=True)
    return schema


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    """Yield the lines about a method of a route."""
    yield f"### {operation.get('summary') or operation['operationId']}"
    yield ""
    yield f"`{method.upper()} {path}`"
    yield ""
    if text := operation.get("description"):
        yield from (text, "")
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | meaning |"
        yield "|---|---|---|---|"
        for each in parameters:
            name = f"`{each['name']}`" + (" (required)" if each.get("required") else "")
            meaning = _cell(each.get("description", ""))
            yield f"| {name} | {each['in']} | {_type(each['schema'])} | {meaning} |"
        yield ""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"The body, as `{kind}`: {_type(content['schema'])}."
        yield ""
    yield "| status | body | meaning |"
    yield "|---|---|---|"
    for status, response in operation["responses"].items():
        bodies = [_type(each["schema"]) for each in response.get("content", {}).values()]
        body = ", ".join(dict.fromkeys(bodies)) or "none"
        yield f"| {status} | {body} | {_cell(response.get('description', ''))} |"
    yield ""


def _component(name: str, schema: Schema) -> Iterator[str]:
    """Yield the lines about an object or a set of values."""
    yield f"### {name}"
    yield ""
    if text := schema.get("description"):
        yield from (text, "")
    if fields := schema.get("properties"):
        required = schema.get("required", ())
        yield "| field | type | meaning |"
        yield "|---|---|---|"
        for field, each in fields.items():
            shown = f"`{field}`" + ("" if field in required else " (optional)")
            yield f"| {shown} | {_type(each)} | {_cell(each.get('description', ''))} |"
        yield ""
    else:
        yield from (f"{_type(schema)}", "")


def _type(schema: Schema) -> str:
    """Return the type as Markdown, with a link to the object."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key, word in (("allOf", " and "), ("oneOf", " or "), ("anyOf", " or ")):
        if key in schema:
            return word.join(map(_type, schema[key])) + (
                " or null" if schema.get("nullable") else ""
            )
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (
            *(("minimum", "from"), ("maximum", "to")),
            *(("minLength", "at least"), ("maxLength", "at most")),
        )
        if key in schema
    ]
    text = " ".join([f"{kind}, {schema['format']}" if "format" in schema else kind, *limits])
    return text + (" or null" if schema.get("nullable") else "")


def _cell(text: str) -> str:
    """Return the text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
