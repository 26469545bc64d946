"""Routes of browser login and logout."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from trimtab.engine.api.api_context import ApiContext, ContextDep, PrincipalDep, append_audit_row_async
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.security.authentication import COOKIE, client_address, csrf_token
from trimtab.engine.api.shapes.json_shapes import Session, json_response
from trimtab.engine.types import ApiKey

router = APIRouter(tags=["session"])


class LoginBody(BaseModel):
    """An API key to log in with."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"key": "tt_..."}]})
    key: SecretStr


@router.get("/api/session", summary="Current caller", responses={200: {"model": Session}})
async def session(principal: PrincipalDep) -> Response:
    """Name and scopes of the caller and, for a browser, the CSRF token for its writes."""
    return json_response({"name": principal.name, "scopes": principal.key.scopes, "csrf": principal.csrf})


@router.post("/api/session", summary="Log in with a key", responses={200: {"model": Session}})
async def log_in(request: Request, context: ContextDep, body: LoginBody) -> Response:
    """Exchange an API key for a session cookie; the session ends with the key, after at most 30 days."""
    address = client_address(request)
    parent = await context.authenticator.require_key(body.key.get_secret_value().strip(), address)
    await append_audit_row_async(
        context, "logged in", "session", parent.name, key=parent.prefix, address=address
    )
    opened, token = await asyncio.to_thread(api_keys.open_session, context.store, context.clock, parent)
    context.key_cache.invalidate()
    answer = json_response({"name": parent.name, "scopes": opened.scopes, "csrf": csrf_token(token)})
    return _with_cookie(answer, request, context, opened, token)


@router.delete("/api/session", status_code=204, summary="Log out")
async def log_out(request: Request, context: ContextDep, principal: PrincipalDep) -> Response:
    """End the session of this browser."""
    if principal.csrf is None:
        raise ProblemError(
            409, "This request uses a key, not a session; DELETE /api/keys/{id} revokes a key."
        )
    await asyncio.to_thread(api_keys.close_session, context.store, context.clock, principal.key)
    await append_audit_row_async(context, "logged out", "session", principal.name)
    context.key_cache.invalidate()
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/", secure=_is_https(request), httponly=True, samesite="strict")
    return answer


@router.get("/login", include_in_schema=False)
async def follow_link(
    request: Request, context: ContextDep, token: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """Redeem a login link: works once, sets the cookie and redirects to the dashboard."""
    if "prefetch" in request.headers.get("sec-purpose", "") + request.headers.get("purpose", ""):
        raise ProblemError(503, "Login links cannot be prefetched.")
    address = client_address(request)
    async with context.authenticator.login_link_lock:
        opened = await asyncio.to_thread(api_keys.redeem_login_link, context.store, context.clock, token)
    if opened is None:
        context.authenticator.record_failure(address)
        return _invalid_link_page()
    await append_audit_row_async(context, "logged in", "session", "login link", address=address)
    context.key_cache.invalidate()
    return _with_cookie(RedirectResponse("/", 303), request, context, *opened)


def _with_cookie(
    answer: Response, request: Request, context: ApiContext, opened: ApiKey, token: str
) -> Response:
    lifetime_s = ((opened.expires or 0) - context.clock.now()) // 1_000_000_000
    answer.set_cookie(
        COOKIE, token, max_age=max(0, lifetime_s), path="/", secure=_is_https(request), httponly=True,
        samesite="strict",
    )  # fmt: skip
    return answer


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https"


def _invalid_link_page() -> Response:
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href=/favicon.svg>"
        "<title>Trimtab: log in</title>"
        "<h1>This link is no longer valid</h1><p>It was already used, or is older than 10 minutes.</p>"
        "<p><code>trimtab key login</code> prints a new one. Or create a key with "
        "<code>trimtab key create</code> and paste it on <a href=/>the dashboard</a>.</p></html>",
        401,
    )
