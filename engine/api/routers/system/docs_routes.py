"""Routes of /api-docs: Swagger UI from local files, and the OpenAPI document."""

from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.request_logging import CSP
from trimtab.engine.api.shapes.json_shapes import json_response

router = APIRouter(tags=["docs"])
ASSETS_DIR = Path(__file__).parents[2] / "assets"
BUNDLED_FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})
_HEADERS = {
    "Content-Security-Policy": f"{CSP}; img-src 'self' data:",  # the icons in Swagger UI's own style sheet
    "Cache-Control": "no-cache",
}


@router.get("/api/openapi.json", summary="OpenAPI document")
def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return json_response(cast("dict[str, Any]", request.app.openapi()))


@router.get("/api-docs", include_in_schema=False)
async def page(context: ContextDep) -> Response:
    """Swagger UI, or a page that says how to build it if its files are missing."""
    built = all((_bundled_dir(context.web_dir) / name).is_file() for name in BUNDLED_FILES)
    return FileResponse(ASSETS_DIR / ("docs.html" if built else "docs-not-built.html"), headers=_HEADERS)


@router.get("/api-docs/{asset}", include_in_schema=False)
async def asset(context: ContextDep, asset: str) -> Response:
    """A file of the page."""
    if asset == "init.js":
        return FileResponse(ASSETS_DIR / "init.js", headers=_HEADERS)
    path = _bundled_dir(context.web_dir) / asset
    if asset not in BUNDLED_FILES or not path.is_file():
        raise ProblemError(
            404, f"There is no file {asset[:100]!r}; `make web` builds the files of /api-docs."
        )
    return FileResponse(path, headers=_HEADERS)


def _bundled_dir(web_dir: Path | None) -> Path:
    return (web_dir or ASSETS_DIR) / "docs"
