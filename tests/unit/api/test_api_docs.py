import re

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from trimtab.engine.api.security.access_table import ACCESS


@pytest.fixture
def web_dir(tmp_path):
    """A built dashboard, as `make web` leaves it."""
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
    """The OpenAPI document."""
    return (await ApiHarness().key_client("read").get("/api/openapi.json")).json()


async def test_the_document_holds_every_route_with_its_access(document):
    """Each route of the table but the pages is described, with who may call it."""
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    pages = {("GET", "/login"), ("GET", "/api-docs"), ("GET", "/api-docs/{asset}")}
    assert described == set(ACCESS) - pages
    for method, path in described:
        operation = document["paths"][path][method.lower()]
        assert operation["summary"]
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
        assert f"Access: {ACCESS[method, path]}." in operation["description"]
        assert ("401" in operation["responses"]) == bool(operation["security"])


async def test_every_error_of_the_document_is_a_problem(document):
    """Errors are described as problem+json, never as the framework's own form."""
    for path, item in document["paths"].items():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path != "/api/health/ready":
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_every_answer_of_the_loop_has_an_example_that_fits(document):
    """Each route about incidents, actions and tools shows an example with the fields of its shape."""
    loop = {
        "incidents", "recommendations", "actions", "tools", "pause", "audit", "forecasts", "models",
    }  # fmt: skip
    for path, item in document["paths"].items():
        for operation in item.values():
            if loop & set(operation["tags"]):
                good = next(answer for status, answer in operation["responses"].items() if status < "300")
                shown = good["content"]["application/json"]
                shape = document["components"]["schemas"][shown["schema"]["$ref"].rsplit("/", 1)[1]]
                absent = set(shape["properties"]) - set(shown["example"])
                assert set(shown["example"]) <= set(shape["properties"]), path
                assert all("null" in str(shape["properties"][name]) for name in absent), path


async def test_every_reference_of_the_document_leads_somewhere(document):
    """No schema is referred to that is not there."""
    refs = set(re.findall(r"#/components/schemas/([A-Za-z_]+)", str(document)))
    assert refs <= set(document["components"]["schemas"])
    assert document["info"]["version"] == "0.1.0"


async def test_the_docs_page_runs_no_inline_code(web_dir):
    """The page has only files of our own, so that the policy needs no exception for code."""
    client = ApiHarness(web_dir=web_dir).anonymous_client()
    page = await client.get("/api-docs")
    assert page.status_code == 200
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert not re.search(r"\bon\w+=", page.text)
    assert "//" not in page.text.replace("<!doctype", "")
    for asset in re.findall(r'(?:src|href)="(/api-docs/[^"]+)"', page.text):
        answer = await client.get(asset)
        assert answer.status_code == 200, asset
        assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert "img-src 'self' data:" in page.headers["content-security-policy"]


async def test_the_docs_page_says_how_to_build_it():
    """Without the built files the page tells what to run and where the bare document is."""
    client = ApiHarness().anonymous_client()
    page = await client.get("/api-docs")
    assert "make web" in page.text
    assert "/api/openapi.json" in page.text
    assert_problem(await client.get("/api-docs/swagger-ui.css"), 404, "make web")


@pytest.mark.parametrize("asset", ["docs.html", "LICENSE", "..%2f..%2fsecret.txt", "%2e%2e", "init.py"])
async def test_only_the_pages_own_files_are_served(web_dir, asset):
    """Nothing else of the folder, or beside it, comes out under /api-docs."""
    answer = await ApiHarness(web_dir=web_dir).key_client("read").get(f"/api-docs/{asset}")
    assert answer.status_code in {404, 401}
    assert "secret" not in answer.text.replace("secret.txt", "")


async def test_the_dashboard_is_served_without_a_key(web_dir):
    """Files of the dashboard are open; hashed ones are kept by browsers, the rest is asked for again."""
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
async def test_nothing_beside_the_dashboard_is_served(web_dir, path):
    """A path that climbs out of the folder finds nothing."""
    answer = await ApiHarness(web_dir=web_dir).anonymous_client().get(path)
    assert answer.status_code == 404
    assert answer.text != "secret"


async def test_a_dashboard_that_is_not_built_says_so(tmp_path):
    """Without built files the start page tells what to run; it appears as soon as it is built."""
    api = ApiHarness(web_dir=tmp_path / "dist")
    page = await api.anonymous_client().get("/")
    assert page.status_code == 503
    assert "make web" in page.text
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("built")
    assert (await api.anonymous_client().get("/")).text == "built"
    assert (await ApiHarness().anonymous_client().get("/")).status_code == 503
