"""The dashboard's files."""

import asyncio
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_NOT_BUILT = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Trimtab</title>"
    "<h1>The dashboard is not built</h1>"
    "<p>Run <code>make web</code> in the source folder, then load this page again. "
    "The engine itself runs: <a href=/api/health/ready>/api/health/ready</a>.</p></html>"
)


class WebFiles(StaticFiles):
    """Static files; those under /assets carry a hash in their name and are kept for a year by browsers."""

    def __init__(self, web_dir: Path | None) -> None:
        super().__init__(directory=web_dir, html=True, check_dir=False)
        self._web_dir = web_dir

    async def check_config(self) -> None:
        """Nothing: the folder may be built while we run."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file; where nothing is built the start page says so."""
        if self._web_dir is None or not await asyncio.to_thread((self._web_dir / "index.html").is_file):
            if path in {".", "index.html"}:
                return HTMLResponse(_NOT_BUILT, 503, {"Cache-Control": "no-store"})
            raise HTTPException(404)
        answer = await super().get_response(path, scope)
        lasting = path.startswith("assets/") and answer.status_code in {200, 304}
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return answer
