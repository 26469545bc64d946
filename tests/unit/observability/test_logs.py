"""Logs: one way for all, trace ids, levels, and nothing secret."""

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
    """A configured stream; gives the lines so far, parsed."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    structlog.reset_defaults()
    logs.configure_logs("info", "json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_ours_and_others_take_the_same_way(lines):
    """A structlog event and a library's record come out as the same kind of JSON line."""
    structlog.get_logger("trimtab.x").info("tick", series=3, value=float("nan"))
    logging.getLogger("sqlalchemy.engine").warning("slow %s", "query")
    ours, theirs = lines()
    assert (ours["event"], ours["series"], ours["value"], ours["level"]) == ("tick", 3, None, "info")
    assert (theirs["event"], theirs["logger"]) == ("slow query", "sqlalchemy.engine")
    assert ours["time"].endswith("Z")


def test_a_library_that_set_handlers_takes_the_same_way_all_the_same():
    """MLflow gives SQLAlchemy's logger a handler of its own, and keeps its lines from everybody else."""
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


def test_a_trace_id_stands_on_every_line_inside(lines):
    """Lines inside `traced` carry its id and fields, ours and libraries'; lines outside do not."""
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
    """A logger that exists already follows a new level."""
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
    """A secret is hidden by name, by type and by form, however deep it is."""
    structlog.get_logger("trimtab.x").info("said", **fields)
    (line,) = lines()
    assert "hunter22" not in json.dumps(line)
    assert "aHVudGVyMjI" not in json.dumps(line)
    assert "(hidden)" in json.dumps(line)


def test_a_secret_of_the_settings_is_hidden_in_a_traceback(lines, monkeypatch):
    """A value that the settings hold is hidden wherever it turns up, tracebacks included."""
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


def test_a_secret_in_a_file_is_hidden_too(tmp_path):
    """What a `..._file` of the settings holds is known to the redaction; a missing file is no error here."""
    path = tmp_path / "key"
    path.write_text("correct horse\n")
    assert logs.collect_secrets(Settings(api=Api(admin_key_file=path))) == {"correct horse"}
    assert logs.collect_secrets(Settings(api=Api(admin_key_file=tmp_path / "none"))) == set()
    writer = Writer(remote_write_url="http://x/", headers_file={"X-Tenant": path})
    assert logs.collect_secrets(Settings(writer=writer)) == {"correct horse"}


def test_a_terminal_gets_a_readable_form():
    """The console form is one plain line with the same things hidden."""
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


def test_a_secret_that_begins_like_another_leaves_nothing_of_it():
    """Of two secrets, one the beginning of the other, neither shows."""
    shown = logs.Redactor({"hunter", "hunter-and-more"})(None, "info", {"event": "no hunter-and-more"})
    assert shown == {"event": "no (hidden)"}


def test_a_terminal_is_spared_what_went_well():
    """In console form good requests and quiet ticks are left out; what went wrong or changed is shown."""
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
