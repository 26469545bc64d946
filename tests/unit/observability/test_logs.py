"""Logs: format, trace ids, levels, redaction."""

import io
import json
import logging

import pytest
import structlog
from pydantic import SecretStr

from trimtab.engine.observability import logs
from trimtab.engine.settings import Api, Settings, Writer


@pytest.fixture
def lines():
    """A configured stream; returns the parsed lines so far."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    structlog.reset_defaults()
    logs.configure_logs("info", "json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_library_records_have_the_same_format(lines):
    """A structlog event and a library's record become the same kind of JSON line."""
    structlog.get_logger("trimtab.x").info("tick", series=3, value=float("nan"))
    logging.getLogger("sqlalchemy.engine").warning("slow %s", "query")
    own, theirs = lines()
    assert (own["event"], own["series"], own["value"], own["level"]) == ("tick", 3, None, "info")
    assert (theirs["event"], theirs["logger"]) == ("slow query", "sqlalchemy.engine")
    assert own["time"].endswith("Z")


def test_handlers_of_libraries_are_replaced():
    """MLflow gives SQLAlchemy's logger a handler and disables propagation; both are undone."""
    stream, root = io.StringIO(), logging.getLogger()
    theirs = logging.getLogger("sqlalchemy.engine")
    before = root.handlers, root.level
    theirs.handlers, theirs.propagate = [logging.StreamHandler(io.StringIO())], False
    logs.configure_logs("info", "json", stream)
    theirs.warning("slow")
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    assert json.loads(stream.getvalue())["event"] == "slow"


def test_a_trace_id_is_on_every_line_inside(lines):
    """Lines inside `trace_context` carry its id and fields; lines outside do not."""
    log = structlog.get_logger("trimtab.x")
    with logs.trace_context(source="host") as trace_id:
        log.info("inside")
        logging.getLogger("alembic").warning("theirs")
    log.info("outside")
    inside, theirs, outside = lines()
    assert inside["trace_id"] == theirs["trace_id"] == trace_id
    assert inside["source"] == "host"
    assert "trace_id" not in outside


def test_the_level_can_change_while_running(lines):
    """An existing logger follows a new level."""
    log = structlog.get_logger("trimtab.x")
    log.debug("unheard")
    logs.set_log_level("debug")
    log.debug("heard")
    logs.set_log_level("error")
    log.warning("unheard")
    assert [line["event"] for line in lines()] == ["heard"]
    with pytest.raises(ValueError, match="loud"):
        logs.set_log_level("loud")


SECRETS = [
    # by name
    {"password": "hunter22"},
    {"headers": {"Authorization": "Basic aHVudGVyMjI6aHVudGVyMjI="}},
    {"api_key": "hunter22", "cookie": "hunter22"},
    # by type
    {"value": SecretStr("hunter22")},
    # by form
    {"url": "http://bob:hunter22@db:9090/api"},
    {"detail": "tried http://db/?access_token=hunter22&x=1"},
    {"detail": "sent Authorization: Bearer hunter22"},
    # inside sequences
    {"tried": [{"token": "hunter22"}, ("http://bob:hunter22@x",)]},
]


@pytest.mark.parametrize("fields", SECRETS)
def test_a_secret_does_not_reach_the_log(lines, fields):
    """A secret is redacted by name, by type and by form, at any depth."""
    structlog.get_logger("trimtab.x").info("said", **fields)
    (line,) = lines()
    assert "hunter22" not in json.dumps(line)
    assert "aHVudGVyMjI" not in json.dumps(line)
    assert "(hidden)" in json.dumps(line)


def test_a_secret_in_settings_is_redacted_in_a_traceback(lines, monkeypatch):
    """A secret value of the settings is redacted everywhere, including tracebacks."""
    monkeypatch.setattr(logs._redactor, "secret_values", set())
    settings = Settings(api=Api(admin_key=SecretStr("correct horse")))
    logs.hide_values(logs.collect_secrets(settings))
    try:
        raise RuntimeError("could not log in with correct horse")
    except RuntimeError:
        structlog.get_logger("trimtab.x").exception("failed")
    (line,) = lines()
    assert "correct horse" not in json.dumps(line)
    assert "RuntimeError: could not log in with (hidden)" in line["exception"]


def test_a_secret_in_a_file_is_redacted(tmp_path):
    """The content of a `..._file` setting is redacted; a missing file is no error here."""
    path = tmp_path / "key"
    path.write_text("correct horse\n")
    assert logs.collect_secrets(Settings(api=Api(admin_key_file=path))) == {"correct horse"}
    assert logs.collect_secrets(Settings(api=Api(admin_key_file=tmp_path / "none"))) == set()
    writer = Writer(remote_write_url="http://x/", headers_file={"X-Tenant": path})
    assert logs.collect_secrets(Settings(writer=writer)) == {"correct horse"}


def test_a_terminal_gets_a_readable_form():
    """The console form is one plain line with the same redaction."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    structlog.reset_defaults()
    logs.configure_logs("info", "console", stream)
    structlog.get_logger("trimtab.x").info("history", series=3, token="hunter22")
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    assert "history" in stream.getvalue()
    assert "series=3" in stream.getvalue()
    assert "hunter22" not in stream.getvalue()


def test_a_secret_with_another_as_prefix_is_fully_redacted():
    """If one secret is the prefix of another, neither is shown."""
    shown = logs.Redactor({"hunter", "hunter-and-more"})(None, "info", {"event": "no hunter-and-more"})
    assert shown == {"event": "no (hidden)"}


def test_a_terminal_hides_routine_events():
    """The console form omits successful requests and quiet ticks; failures and changes are shown."""
    out = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    structlog.reset_defaults()
    logs.configure_logs("info", "console", out)
    log = structlog.get_logger("trimtab.test")
    log.info("request", route="/api/series", status=200)
    log.debug("request", route="/api/health/ready", status=503)
    log.info("tick", anomalies=0)
    quiet = out.getvalue()
    log.info("request", route="/api/series", status=500)
    log.info("tick", anomalies=2)
    log.info("found a Prometheus")
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    assert quiet == ""
    assert len(out.getvalue().splitlines()) == 3
