"""The API as data: each endpoint's models make its checks, its answers and its part of the OpenAPI document.

Scripts may use it like the page does: POST a request's JSON, get the answer's. What can't be used is answered with
status 422 and a `Problem`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from svertka.errors import SvertkaError
from svertka.lab.guard import RefusedError
from svertka.lab.work import Check, GivenUpError, Workers


class Asked(BaseModel):
    """What a request holds; a name that isn't known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answered(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(frozen=True)


class Problem(Answered):
    """Why there is no answer.

    Args:
        kind: which problem it is, for a page that says it in another language; "other" if it has no name.
        message: one sentence in English.
        numbers: that the sentence is about.
    """

    kind: str
    message: str
    numbers: list[int] = []


class LabError(SvertkaError):
    """A problem with a name, so that the page can say it in the reader's language."""

    def __init__(self, kind: str, message: str, *numbers: int) -> None:
        super().__init__(message)
        self.kind, self.numbers = kind, list(numbers)


@dataclass(frozen=True)
class File:
    """An answer that is a file, to keep if it has a name; `headers` say more about it."""

    content: bytes
    media_type: str
    name: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """One address of the API.

    Args:
        path: of the address.
        asked: the model of the request; bytes for a file as it is, with its options in the query.
        answered: the model of the answer; File for a file.
        answer: makes the one of the other; a check to call now and then comes along, and `data` for a file.
        takes_file: whether the request is a file.
        needs: what of the app's `state` the answer is made with, such as "networks": it comes along by that name.
    """

    path: str
    asked: type[BaseModel]
    answered: type[BaseModel] | type[File]
    answer: Callable[..., Any]
    takes_file: bool = False
    needs: tuple[str, ...] = ()

    def route(self, workers: Workers) -> Route:
        """Answers requests: checks them, computes in the workers' threads."""

        async def handle(request: Request) -> Response:
            try:
                body = await request.body()
                asked, data = self._read(request, body)
                shared = {name: getattr(request.app.state, name) for name in self.needs}
                answer = await workers.run(request, lambda check: self._computed(asked, data, check, shared))
            except GivenUpError:
                return Response(status_code=499)
            except RefusedError as refused:
                return JSONResponse(Problem(kind="refused", message=str(refused)).model_dump(), refused.status)
            except (SvertkaError, MemoryError, OverflowError) as error:
                return JSONResponse(_problem(error).model_dump(), 422)
            if isinstance(answer, File):
                headers = dict(answer.headers)
                if answer.name:
                    headers["Content-Disposition"] = f'attachment; filename="{answer.name}"'
                return Response(answer.content, media_type=answer.media_type, headers=headers)
            return Response(answer, media_type="application/json")

        return Route(self.path, handle, methods=["POST"])

    def _read(self, request: Request, body: bytes) -> tuple[BaseModel, bytes | None]:
        try:
            if self.takes_file:
                return self.asked.model_validate_strings(dict(request.query_params)), body
            return self.asked.model_validate_json(body), None
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the request"
            raise LabError("request", f"{where} of the request can't be used: {first['msg']}") from None

    def _computed(self, asked: BaseModel, data: bytes | None, check: Check, shared: dict[str, Any]) -> bytes | File:
        """The answer, as bytes: it is written in the worker's thread, too."""
        answer = self.answer(asked, check, *(() if data is None else (data,)), **shared)
        return answer if isinstance(answer, File) else answer.model_dump_json().encode()


@dataclass(frozen=True)
class Stream:
    """An address that goes on answering, as server-sent events: each holds an answer as JSON.

    Args:
        path: of the address.
        answered: the model of each answer.
        answers: gives them one after the other, and None to show now and then that it is still there.
        needs: as of an endpoint.
    """

    path: str
    answered: type[BaseModel]
    answers: Callable[..., AsyncIterator[BaseModel | None]]
    needs: tuple[str, ...] = ()

    def route(self, _: Workers) -> Route:
        """Answers as long as the page is there."""

        async def handle(request: Request) -> Response:
            shared = {name: getattr(request.app.state, name) for name in self.needs}

            async def lines() -> AsyncIterator[str]:
                async for answer in self.answers(**shared):
                    yield ":\n\n" if answer is None else f"data: {answer.model_dump_json()}\n\n"

            return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

        return Route(self.path, handle, methods=["GET"])


def _problem(error: Exception) -> Problem:
    if isinstance(error, LabError):
        return Problem(kind=error.kind, message=str(error), numbers=error.numbers)
    if isinstance(error, SvertkaError):
        return Problem(kind="other", message=str(error))
    return Problem(kind="too-large", message="the numbers are too large to be computed: take smaller ones")


def document(all_of_them: Iterable[Endpoint | Stream]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    all_of_them = list(all_of_them)
    endpoints = [e for e in all_of_them if isinstance(e, Endpoint)]
    streams = [e for e in all_of_them if isinstance(e, Stream)]
    models: list[tuple[type[BaseModel], Any]] = [(Problem, "serialization")]
    models += [(e.asked, "validation") for e in endpoints if not e.takes_file]
    models += [(e.answered, "serialization") for e in all_of_them if issubclass(e.answered, BaseModel)]
    places, schemas = models_json_schema(list(dict.fromkeys(models)), ref_template="#/components/schemas/{model}")
    problem = {"description": "what can't be used", "content": _json(places[(Problem, "serialization")])}
    paths: dict[str, Any] = {}
    for e in endpoints:
        answered: Any = (
            _json(places[(e.answered, "serialization")]) if issubclass(e.answered, BaseModel)
            else {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        )  # fmt: skip
        operation: dict[str, Any] = {
            "summary": (e.answer.__doc__ or "").strip().splitlines()[0],
            "responses": {"200": {"description": "the answer", "content": answered}, "422": problem},
        }
        if e.takes_file:
            operation["parameters"] = _parameters(e.asked)
            binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            operation["requestBody"] = {"required": True, "content": binary}
        else:
            operation["requestBody"] = {"required": True, "content": _json(places[(e.asked, "validation")])}
        paths[e.path] = {"post": operation}
    for stream in streams:
        event = {"text/event-stream": {"schema": places[(stream.answered, "serialization")]}}
        paths[stream.path] = {
            "get": {
                "summary": (stream.answers.__doc__ or "").strip().splitlines()[0],
                "responses": {"200": {"description": "server-sent events, each with an answer", "content": event}},
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Svertka's lab", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}
        for name, field in schema["properties"].items()
    ]


def written(endpoints: Iterable[Endpoint | Stream]) -> str:
    """The document as text, always the same for the same endpoints."""
    return json.dumps(document(endpoints), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
