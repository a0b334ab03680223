"""Reads what a request carries, bounded: whatever doesn't fit is a 4xx with the field's name, never more than that."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from belay_gateway.api.models import MAX_BODY_BYTES
from belay_gateway.api.problems import BadRequest, sentence

Model = TypeVar("Model", bound=BaseModel)
_JSON = "application/json"


async def body(request: web.Request, model: type[Model], seconds: float) -> Model:
    """The body, each value of the type that the document says.

    Raises BadRequest with 408 (late), 413, 415, 400 (no JSON) or 422 (JSON that does not fit).
    """
    if request.content_type != _JSON:
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type: send {_JSON}, with a JSON body")
    try:
        async with asyncio.timeout(seconds):
            raw = await _bounded(request)
    except TimeoutError:
        raise BadRequest(HTTPStatus.REQUEST_TIMEOUT, f"body: not all there within {seconds:g} s") from None
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        is_json = error.errors(include_url=False, include_input=False, include_context=False)[0]["type"]
        status = HTTPStatus.BAD_REQUEST if is_json == "json_invalid" else HTTPStatus.UNPROCESSABLE_ENTITY
        raise BadRequest(status, sentence(error, "body")) from None


async def _bounded(request: web.Request) -> bytes:
    """What came, also when it was compressed, up to the bound and not a chunk further."""
    too_large = f"body: at most {MAX_BODY_BYTES} bytes; put it where it can be read and name the URI"
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
    raw = bytearray()
    try:
        async for chunk in request.content.iter_any():
            raw += chunk
            if len(raw) > MAX_BODY_BYTES:
                raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
    except web.RequestPayloadError:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "body: broken off, or not encoded as it says") from None
    return bytes(raw)


def path(request: web.Request, model: type[Model]) -> Model:
    """The names in the path. Raises BadRequest: what is no name names nothing."""
    try:
        return model.model_validate(dict(request.match_info))
    except ValidationError as error:
        raise BadRequest(HTTPStatus.NOT_FOUND, sentence(error, "path")) from None


def query(request: web.Request, model: type[Model]) -> Model:
    """The query. Raises BadRequest for unknown and repeated parameters too."""
    return _flat("query", model, {name: request.query.getall(name) for name in request.query})


def headers(request: web.Request, model: type[Model]) -> Model:
    """Those headers that the model names. Raises BadRequest."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    given = {name: request.headers.getall(name) for name in names if name in request.headers}
    return _flat("header", model, given)


def _flat(place: str, model: type[Model], given: Mapping[str, list[str]]) -> Model:
    twice = sorted(name for name, values in given.items() if len(values) > 1)
    if twice:
        raise BadRequest(HTTPStatus.UNPROCESSABLE_ENTITY, f"{place}: {twice[0][:100]} is given more than once")
    try:
        return model.model_validate({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        raise BadRequest(HTTPStatus.UNPROCESSABLE_ENTITY, sentence(error, place)) from None
