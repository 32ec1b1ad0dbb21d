"""What the server tells of itself: OpenAPI, and a page to try it."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from mlflow.types import DataType, Schema

__all__ = ["describe", "show"]

#: MLflow's types to those of JSON Schema; all others are text.
TYPES = {
    DataType.boolean: "boolean",
    DataType.integer: "integer",
    DataType.long: "integer",
    DataType.float: "number",
    DataType.double: "number",
}
ERRORS = {
    400: "The request does not fit the model.",
    401: "The token is missing or wrong.",
    403: "The request comes from another page, or names another host.",
    408: "The request has not come whole in time.",
    413: "The request is too large.",
    429: "Too many requests wait already.",
    503: "The memory for requests is taken.",
}


def describe(schema: Schema | None, sample: dict[str, Any], title: str) -> dict[str, Any]:
    """Write the OpenAPI document: what the model takes, and what the server answers.

    Parameters
    ----------
    schema : Schema
        The model's signature.
    sample : dict
        A request that it accepts.
    """
    row: dict[str, Any] = {"type": "object"}
    if schema and schema.has_input_names():
        specs = {str(spec.name): spec for spec in schema.inputs}
        row |= {
            "properties": {name: {"type": _json_type(spec)} for name, spec in specs.items()},
            "required": [name for name, spec in specs.items() if spec.required],
            "additionalProperties": False,
        }
    split = {
        "type": "object",
        "properties": {"columns": {"type": "array"}, "data": {"type": "array"}},
        "required": ["columns", "data"],
    }
    forms = [
        _object("dataframe_split", split),
        _object("dataframe_records", {"type": "array", "items": row}),
    ]
    text = {"schema": {"type": "string"}}
    content = {
        "application/json": {"schema": {"oneOf": forms}, "example": sample},
        "text/csv": text,
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }
    message = {"type": "object", "properties": {"message": {"type": "string"}}}
    refused = {
        str(status): {
            "description": told,
            "content": {"application/json": {"schema": message}},
        }
        for status, told in ERRORS.items()
    }
    predictions = _object("predictions", {"type": "array"})
    ok = {"description": "A prediction for each row."}
    answer = ok | {"content": {"application/json": {"schema": predictions}}}
    paths = {
        f"/{name}": {"get": {"summary": told, "responses": {"200": {"description": told}}}}
        for name, told in {
            "health": "The server lives.",
            "ready": "The server answers with the model of the headers.",
            "version": "The version of MLflow.",
            "metrics": "What Prometheus reads.",
        }.items()
    }
    post = {
        "summary": "Predict.",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answer} | refused,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": {"/invocations": {"post": post}} | paths,
    }


def show(schema: Schema | None, sample: dict[str, Any], title: str, note: str) -> str:
    """Write the page on which the model is tried."""
    specs: list[Any] = schema.inputs if schema and schema.has_input_names() else []
    rows = (
        f"<tr><td>{html.escape(str(spec.name))}</td><td>{html.escape(spec.type.name)}</td></tr>"
        for spec in specs
    )
    page = Template(files(__package__).joinpath("page.html").read_text())
    return page.substitute(
        title=html.escape(title),
        note=html.escape(note),
        sample=html.escape(json.dumps(sample, indent=1)),
        columns="".join(rows),
    )


def _object(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {key: schema}, "required": [key]}


def _json_type(spec: Any) -> str:
    return TYPES.get(spec.type, "string")
