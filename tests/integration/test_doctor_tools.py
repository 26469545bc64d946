"""`trimtab doctor` and `up --dry-run` on real tools, receivers and silences."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers.alertmanager import start_alertmanager
from tests.servers.prometheus import free_port
from tests.servers.redis import start_redis
from tests.servers.smtp import start_smtp_server
from tests.servers.webhook_receiver import start_webhook_receiver
from trimtab.engine.cli.doctor.doctor import CheckState, exit_code
from trimtab.engine.cli.doctor.receiver_checks import receiver_checks
from trimtab.engine.cli.doctor.tool_checks import tool_checks
from trimtab.engine.settings.settings_file import load_settings

TRIMTAB = Path(sys.executable).with_name("trimtab")


@pytest.fixture
def load(tmp_path):
    """Returns the settings of a text."""

    def load_text(text):
        path = tmp_path / "trimtab.yaml"
        path.write_text(text)
        return load_settings(path, {})

    return load_text


async def check_only_tool(settings):
    """Return the check of the only tool."""
    (check,) = await tool_checks(settings.tools)
    return check


async def test_a_healthy_tool_passes(load, tmp_path):
    """A healthy tool shows address and version; a disabled one is not checked."""
    with start_redis(tmp_path / "r", "--maxmemory", "10mb") as server:
        check = await check_only_tool(
            load(f"tools: {{redis: {{url: '{server.url}', mode: {{hz: auto}}}}, pm2: {{enabled: false}}}}")
        )
        assert (check.name, check.state, check.items) == ("tools.redis", CheckState.OK, ())
        assert f"127.0.0.1:{server.port}" in check.detail
        assert server.cli("CONFIG", "GET", "hz").endswith("10")


async def test_problems_of_a_tool_are_reported(load, tmp_path):
    """An unreachable server, a wrong password and a read-only server are reported with advice."""
    with start_redis(tmp_path / "locked", password="right") as locked:
        denied = await check_only_tool(
            load(f"tools: {{redis: {{url: '{locked.url}', password: wrong-one}}}}")
        )
    assert (denied.state, "trimtab grant redis" in denied.advice) == (CheckState.FOUND, True)
    assert "check username and password of tools.redis" in denied.detail
    assert "wrong-one" not in denied.detail
    away = await check_only_tool(load(f"tools: {{redis: {{url: 'redis://127.0.0.1:{free_port()}'}}}}"))
    assert (away.state, exit_code([away])) == (CheckState.UNREACHABLE, 3)
    with start_redis(tmp_path / "managed", "--rename-command", "CONFIG", "") as managed:
        reads = await check_only_tool(load(f"tools: {{redis: {{url: '{managed.url}'}}}}"))
        acts = await check_only_tool(load(f"tools: {{redis: {{url: '{managed.url}', mode: auto}}}}"))
    assert (reads.state, "it allows no changes" in reads.detail) == (CheckState.OK, True)
    assert (acts.state, acts.items) == (
        CheckState.FOUND,
        ("mode of '*' is auto, but the server allows no changes",),
    )


async def test_a_silent_server_times_out(load):
    """A server that accepts connections but never answers is unreachable after its timeout."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        check = await check_only_tool(load(f"tools: {{redis: {{url: '{url}', timeout: 200ms}}}}"))
    assert (check.state, "gave no answer within 0.2 s" in check.detail) == (CheckState.UNREACHABLE, True)


async def test_a_missing_process_is_reported(load):
    """A process that does not run is reported."""
    check = await check_only_tool(
        load("tools: {w: {kind: process, processes: {worker: {name: no-such-program-here}}}}")
    )
    assert (check.state, check.items) == (CheckState.FOUND, ("target worker: none of its processes runs",))


async def test_a_mode_of_a_missing_action_is_reported(load, tmp_path):
    """A mode of an action that the tool does not have is reported."""
    with start_redis(tmp_path / "r", "--maxmemory", "10mb") as server:
        check = await check_only_tool(
            load(f"tools: {{redis: {{url: '{server.url}', mode: {{warm_keys: auto}}}}}}")
        )
    assert check.state is CheckState.FOUND
    assert check.items[0].startswith("mode names 'warm_keys', but there is no such knob or action")


async def test_receivers_are_checked_without_a_notification(load, tmp_path):
    """Alertmanager, webhook and mail server are checked, and none receives a notification."""
    with (
        start_webhook_receiver() as (webhook, webhook_requests),
        start_alertmanager(tmp_path / "a", webhook) as alertmanager,
    ):
        async with start_smtp_server(login=("trimtab", "pass-of-mail")) as mails:
            settings = load(f"""
notify:
  alertmanager: {{url: {alertmanager.url}}}
  webhook: {{url: {webhook}, secret: a-secret-of-24-characters}}
  email: {{smtp_host: 127.0.0.1, port: {mails.port}, security: none, username: trimtab,
          password: pass-of-mail, sender: t@shop.example, to: [o@shop.example]}}
""")
            checks = await receiver_checks(settings)
        alerts = await asyncio.to_thread(httpx.get, f"{alertmanager.url}/api/v2/alerts", trust_env=False)
        assert [(check.name, check.state) for check in checks] == [
            ("notify.alertmanager", CheckState.OK), ("notify.webhook", CheckState.OK),
            ("notify.email", CheckState.OK),
        ]  # fmt: skip
        assert any(line.startswith("AUTH") for line in mails.lines)
        assert (mails.mails, webhook_requests, alerts.json()) == ([], [], [])


async def test_failing_receivers_are_reported(load):
    """Each failure is reported; an expired silence, too, but not an active one."""
    unused_url = f"http://127.0.0.1:{free_port()}"
    async with start_smtp_server(login=("trimtab", "right-password")) as mails:
        checks = await receiver_checks(
            load(f"""
notify:
  alertmanager: {{url: {unused_url}}}
  webhook: {{url: {unused_url}}}
  email: {{smtp_host: 127.0.0.1, port: {mails.port}, security: none, username: trimtab,
          password: not-the-one, sender: t@shop.example, to: [o@shop.example]}}
  silences:
    old: {{entities: [redis/*], begin: 2024-01-01T00:00:00Z, until: 2024-01-02T00:00:00Z}}
    going: {{entities: [redis/*], begin: 2024-01-01T00:00:00Z, until: 2999-01-02T00:00:00Z}}
""")
        )
    assert [(check.name, check.state) for check in checks] == [
        ("notify.alertmanager", CheckState.UNREACHABLE), ("notify.webhook", CheckState.UNREACHABLE),
        ("notify.email", CheckState.FOUND), ("notify.silences.old", CheckState.FOUND),
    ]  # fmt: skip
    assert "refuses the login (535)" in checks[2].detail
    assert "expired at 2024-01-02T00:00:00.000Z" in checks[3].detail
    assert not [check for check in checks if "not-the-one" in check.detail]


def test_both_commands_report_tools(tmp_path):
    """`doctor` ends with 3 for an unreachable tool, and `up --dry-run` shows it in its comments."""
    port = free_port()
    (tmp_path / "trimtab.yaml").write_text(
        f"tools: {{redis: {{url: 'redis://127.0.0.1:{port}'}}}}\nsources: {{host: {{enabled: true}}}}\n"
    )

    def run(*words):
        return subprocess.run(
            [TRIMTAB, *words, "--data", str(tmp_path / "data"), "--port", "0"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    doctor = run("doctor", "-f", "json")
    rows = {row["check"]: row for row in json.loads(doctor.stdout)}
    assert (doctor.returncode, rows["tools.redis"]["state"]) == (3, "unreachable")
    assert (
        f"# tools.redis: unreachable: redis: 127.0.0.1:{port} cannot be reached"
        in run("up", "--dry-run").stdout
    )
