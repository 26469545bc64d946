"""OpenAPI document, its documentation page and the dashboard's files."""

import re

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.security.access_table import ACCESS


@pytest.fixture
def web_dir(tmp_path):
    """Return the directory of a built dashboard, laid out as by `make web`."""
    for name, text in {
        "index.html": "<!doctype html><title>Trimtab</title>",
        "sw.js": "// worker",
        "assets/index-3f2a.js": "// code",
        "docs/swagger-ui.css": "/* style */",
        "docs/swagger-ui-bundle.js": "// bundle",
        "docs/LICENSE": "Apache-2.0",
    }.items():
        (tmp_path / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "web" / name).write_text(text)
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "web"


@pytest.fixture
async def document():
    """Return the OpenAPI document."""
    return (await ApiHarness().key_client("read").get("/api/openapi.json")).json()


async def test_document_describes_every_route_and_its_access(document):
    """Each route of the access table except pages is described with its required access."""
    described = {
        (method.upper(), path) for path, operations in document["paths"].items() for method in operations
    }
    pages = {("GET", "/login"), ("GET", "/api-docs"), ("GET", "/api-docs/{asset}")}
    assert described == set(ACCESS) - pages
    for method, path in described:
        operation = document["paths"][path][method.lower()]
        assert operation["summary"]
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
        assert f"Access: {ACCESS[method, path]}." in operation["description"]
        assert ("401" in operation["responses"]) == bool(operation["security"])


async def test_documented_errors_are_problems(document):
    """Errors are documented as problem+json, never as the framework's own format."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400" and path != "/api/health/ready":
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_control_loop_responses_have_valid_examples(document):
    """Each control-loop route has an example with the fields of its schema."""
    loop = {
        "incidents", "recommendations", "actions", "tools", "pause", "audit", "forecasts", "models",
    }  # fmt: skip
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if loop & set(operation["tags"]):
                success = next(
                    response for status, response in operation["responses"].items() if status < "300"
                )
                content = success["content"]["application/json"]
                schema = document["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[1]]
                absent = set(schema["properties"]) - set(content["example"])
                assert set(content["example"]) <= set(schema["properties"]), path
                assert all("null" in str(schema["properties"][name]) for name in absent), path


async def test_document_references_exist(document):
    """Every referenced schema exists."""
    refs = set(re.findall(r"#/components/schemas/([A-Za-z_]+)", str(document)))
    assert refs <= set(document["components"]["schemas"])
    assert document["info"]["version"] == "0.1.0"


async def test_the_docs_page_runs_no_inline_code(web_dir):
    """The page loads only local files, so the security policy needs no exception for inline code."""
    client = ApiHarness(web_dir=web_dir).anonymous_client()
    page = await client.get("/api-docs")
    assert page.status_code == 200
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert not re.search(r"\bon\w+=", page.text)
    assert "//" not in page.text.replace("<!doctype", "")
    for asset in re.findall(r'(?:src|href)="(/api-docs/[^"]+)"', page.text):
        response = await client.get(asset)
        assert response.status_code == 200, asset
        assert response.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert "img-src 'self' data:" in page.headers["content-security-policy"]


async def test_unbuilt_docs_page_has_build_instructions():
    """Without the built files, the page names the build command and the OpenAPI document."""
    client = ApiHarness().anonymous_client()
    page = await client.get("/api-docs")
    assert "make web" in page.text
    assert "/api/openapi.json" in page.text
    assert_problem(await client.get("/api-docs/swagger-ui.css"), 404, "make web")


@pytest.mark.parametrize("asset", ["docs.html", "LICENSE", "..%2f..%2fsecret.txt", "%2e%2e", "init.py"])
async def test_only_the_pages_own_files_are_served(web_dir, asset):
    """No other file inside or outside the folder is served under /api-docs."""
    response = await ApiHarness(web_dir=web_dir).key_client("read").get(f"/api-docs/{asset}")
    assert response.status_code in {404, 401}
    assert "secret" not in response.text.replace("secret.txt", "")


async def test_the_dashboard_is_served_without_a_key(web_dir):
    """Dashboard files need no key; hashed files are cached by browsers, others are revalidated."""
    client = ApiHarness(web_dir=web_dir).anonymous_client()
    page = await client.get("/")
    assert "Trimtab" in page.text
    assert page.headers["cache-control"] == "no-cache"
    assert (await client.get("/sw.js")).headers["cache-control"] == "no-cache"
    assert "immutable" in (await client.get("/assets/index-3f2a.js")).headers["cache-control"]
    missing = await client.get("/assets/old.js")
    assert_problem(missing, 404)
    assert "immutable" not in missing.headers["cache-control"]


@pytest.mark.parametrize("path", ["/../secret.txt", "/..%2fsecret.txt", "/assets/..%2f..%2fsecret.txt"])
async def test_files_outside_the_dashboard_are_not_served(web_dir, path):
    """A path that leaves the dashboard's folder gets 404."""
    response = await ApiHarness(web_dir=web_dir).anonymous_client().get(path)
    assert response.status_code == 404
    assert response.text != "secret"


async def test_unbuilt_dashboard_has_build_instructions(tmp_path):
    """Without built files, the start page names the build command; the dashboard appears once built."""
    api = ApiHarness(web_dir=tmp_path / "dist")
    page = await api.anonymous_client().get("/")
    assert page.status_code == 503
    assert "make web" in page.text
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("built")
    assert (await api.anonymous_client().get("/")).text == "built"
    assert (await ApiHarness().anonymous_client().get("/")).status_code == 503
