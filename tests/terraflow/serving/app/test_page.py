"""What a real server tells of itself."""

from __future__ import annotations

import json
import re
from html import unescape
from urllib.parse import unquote

import httpx
import jsonschema
from mlflow.types import ColSpec, DataType, Schema

from terraflow.serving.app.page import describe, show


def test_openapi_has_the_models_columns_and_a_sample_that_it_answers(server: str) -> None:
    document = httpx.get(f"{server}/openapi.json").json()
    body = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    [records] = [
        form for form in body["schema"]["oneOf"] if "dataframe_records" in form["required"]
    ]
    row = records["properties"]["dataframe_records"]["items"]
    assert row["properties"] == {"red": {"type": "number"}, "nir": {"type": "number"}}
    assert row["required"] == ["red", "nir"]
    answer = httpx.post(f"{server}/invocations", json=body["example"])
    assert answer.json() == {"predictions": ["forest"]}
    jsonschema.validate(body["example"], body["schema"])
    assert set(document["paths"]) == {
        *("/invocations", "/health", "/ready", "/version", "/metrics")
    }


def test_page_shows_the_columns_and_a_sample_that_the_server_answers(server: str) -> None:
    page = httpx.get(server)
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert re.findall(r"<td>(\w+)</td>", page.text) == ["red", "double", "nir", "double"]
    [sample] = re.findall(r"<textarea[^>]*>(.*)</textarea>", page.text, re.DOTALL)
    answer = httpx.post(f"{server}/invocations", json=json.loads(unescape(sample)))
    assert answer.json() == {"predictions": ["forest"]}


def test_page_shows_names_as_they_are_and_runs_none() -> None:
    schema = Schema([ColSpec(DataType.double, "<script>$x</script>")])
    shown = show(schema, {"dataframe_split": "</textarea>"}, "$title <b>", "A & b")
    assert "<td>&lt;script&gt;$x&lt;/script&gt;</td>" in shown
    assert "</textarea>" not in shown.replace("</textarea>", "", 1)
    assert "<h1>$title &lt;b&gt;</h1>" in shown


def test_describe_other_types_and_columns_that_may_be_left_out() -> None:
    columns = [ColSpec(DataType.long, "n"), ColSpec(DataType.string, "s", required=False)]
    content = describe(Schema(columns), {}, "M")["paths"]["/invocations"]["post"]["requestBody"]
    forms = content["content"]["application/json"]["schema"]["oneOf"]
    row = forms[1]["properties"]["dataframe_records"]["items"]
    assert row["properties"] == {"n": {"type": "integer"}, "s": {"type": "string"}}
    assert row["required"] == ["n"]


def test_answers_name_the_model(server: str) -> None:
    for path in ("/ready", "/invocations"):
        row = {"red": 0.1, "nir": 0.9}
        answer = httpx.request(
            "GET" if path == "/ready" else "POST", server + path, json={"dataframe_records": [row]}
        )
        told = {key: unquote(value) for key, value in answer.headers.items()}
        assert (told["terraflow-model"], told["terraflow-version"]) == ("Wälder 1", "3")
        assert "terraflow-run" not in told  # no run has logged it
