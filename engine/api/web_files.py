"""Serves the files of the dashboard."""

import asyncio
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_NOT_BUILT = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Trimtab</title>"
    "<h1>The dashboard is not built</h1>"
    "<p>Run <code>make web</code> in the source folder, then load this page again. "
    "The engine is running: <a href=/api/health/ready>/api/health/ready</a>.</p></html>"
)


def _dashboard_url(path: str, scope: Scope) -> str:
    """Return the dashboard URL of a typed path; "" = a file, or not a browser.

    The URL is relative, so that it also works under a proxy's path prefix.
    """
    wants_page = "text/html" in Headers(scope=scope).get("accept", "")
    if not wants_page or "." in path.rsplit("/", 1)[-1] or path.startswith("assets"):
        return ""
    query = scope.get("query_string", b"").decode("latin-1")
    up = "../" * (scope["path"].count("/") - 1) or "./"
    return f"{up}#/{quote(path)}{'?' if query else ''}{query}"


class WebFiles(StaticFiles):
    """Static files; those under /assets have a content hash in their names and are cached for a year."""

    def __init__(self, web_dir: Path | None) -> None:
        super().__init__(directory=web_dir, html=True, check_dir=False)
        self._web_dir = web_dir

    async def check_config(self) -> None:
        """Do nothing: the folder may be built while the engine runs."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file; if the dashboard is not built, the start page says so."""
        if self._web_dir is None or not await asyncio.to_thread((self._web_dir / "index.html").is_file):
            if path in {".", "index.html"}:
                return HTMLResponse(_NOT_BUILT, 503, {"Cache-Control": "no-store"})
            raise HTTPException(404)
        try:
            answer = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code == 404 and (page := _dashboard_url(path, scope)):
                return RedirectResponse(page, 307, {"Cache-Control": "no-store"})
            raise
        lasting = path.startswith("assets/") and answer.status_code in {200, 304}
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return answer
