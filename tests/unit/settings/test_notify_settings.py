"""Settings `notify:` and their error messages."""

import pytest

from tests.builders.series import START
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_notifications import HOUR, FakeKeyValueStore
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeSnapshots, FakeStore
from tests.unit.runtime.test_source_loop import FakeTickMetrics, ImmediateExecutor
from trimtab.engine.errors import SettingsError
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.observability import logs
from trimtab.engine.runtime.components import build_notifiers, external_url
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.supervisor import Supervisor
from trimtab.engine.settings import Api, Settings
from trimtab.engine.settings.notify import Notify
from trimtab.engine.settings.settings_file import load_settings
from trimtab.engine.types import Silence

FULL_EXAMPLE = """
notify:
  notifications_per_week: 7
  external_url: https://trimtab.shop.example/
  alertmanager: {url: http://alerts:9093/am/, bearer_token_file: token, timeout: 5s}
  webhook: {url: https://hooks.shop.example/t, secret_file: secret, headers: {X-Team: a-team}}
  email:
    smtp_host: mail.shop.example
    security: tls
    username: trimtab
    password_file: password
    sender: trimtab@shop.example
    to: [ops@shop.example]
  silences:
    night: {entities: ["redis/*"], begin: 2026-01-01T00:00:00Z, until: "2026-01-01T02:00:00+01:00"}
"""


def load(tmp_path, text):
    """Load settings from this text."""
    path = tmp_path / "trimtab.yaml"
    path.write_text(text)
    return load_settings(path, {})


def test_the_full_example(tmp_path):
    """Every channel is created in order; files are relative to the settings file; silences are in UTC."""
    (tmp_path / "secret").write_text("the-secret-of-the-webhook-receiver")
    settings = load(tmp_path, FULL_EXAMPLE)
    assert settings.notify.notifications_per_week == 7
    assert settings.notify.email.port_number == 465
    assert settings.notify.webhook.secret_file == tmp_path / "secret"

    class Clock:
        def now(self):
            return START

    assert [channel.name for channel in build_notifiers(settings, Clock())] == [
        "alertmanager",
        "webhook",
        "email",
    ]
    assert external_url(settings) == "https://trimtab.shop.example"
    assert "the-secret-of-the-webhook-receiver" in logs.collect_secrets(settings)


def make_notification_policy():
    """An incident service over fakes."""
    return IncidentService(FakeStore(), FakeIncidents(), FakeKeyValueStore())


def test_silences_of_the_settings_are_replaced(tmp_path):
    """Silences of the settings are replaced; those set by operators stay."""
    service = make_notification_policy()
    service.notification_policy.add_silence(Silence("01", ("web",), START, START + HOUR, "ann"))
    service.configure_notifications(load(tmp_path, FULL_EXAMPLE).notify)
    assert service.notification_policy.per_week == 7
    night = Silence("settings/night", ("redis/*",), START, START + HOUR, "settings")
    assert set(service.notification_policy.silences.values()) == {
        night,
        Silence("01", ("web",), START, START + HOUR, "ann"),
    }
    service.configure_notifications(Notify())
    assert list(service.notification_policy.silences) == ["01"]


async def test_silences_change_without_a_restart(tmp_path):
    """A new silence applies immediately; a new receiver applies at the next start."""
    clock = FakeClock()
    around = LoopContext(
        clock,
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
        incident_service=make_notification_policy(),
    )
    off = "sources: {host: {enabled: false}}\n"
    reload = await Supervisor(around, clock, FakeTickMetrics()).apply_settings(
        load(tmp_path, off), load(tmp_path, off + FULL_EXAMPLE)
    )
    assert set(reload.applied_now) == {"notify.notifications_per_week", "notify.silences"}
    assert set(reload.needs_restart) == {
        f"notify.{name}" for name in ("external_url", "alertmanager", "webhook", "email")
    }
    assert list(around.incident_service.notification_policy.silences) == ["settings/night"]
    assert reload.settings.notify.webhook is None


def test_nothing_is_set_by_default():
    """There are no channels; the default rate is five per week."""
    assert build_notifiers(Settings(), None) == []
    assert Settings().notify.notifications_per_week == 5


@pytest.mark.parametrize(
    ("api", "url"),
    [
        (Api(port=0), ""),
        (Api(host="::1", port=9000), "http://[::1]:9000"),
        (Api(tls_cert_file="cert.pem", tls_key_file="key.pem"), "https://127.0.0.1:8600"),
    ],
)
def test_links_use_the_address_of_the_api(api, url):
    """Unless external_url is set; an unknown port gives no link."""
    assert external_url(Settings(api=api)) == url


MAIL = "notify:\n  email:\n    smtp_host: mail\n    sender: a@b.example\n    to: [c@d.example]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notify: {alertmanager: {url: 'a:9093'}}", "notify.alertmanager.url is 'a:9093'; it is not an http"),
        ("notify: {alertmanager: {url: 'http://a?b=c'}}", "it contains a query"),
        ("notify: {alertmanager: {url: 'http://u:p@a'}}", "move them to basic_auth"),
        ("notify: {alertmanager: {url: 'http://a', timeout: 2m}}", "timeout is 120.0; it must be less"),
        ("notify: {webhook: {url: 'http://a', secret: short}}", "use at least 24 characters"),
        ("notify: {webhook: {url: 'http://a', headers: {Webhook-Id: x}}}", "headers contains webhook-id"),
        ("notify: {notifications_per_week: 0}", "notify.notifications_per_week is 0"),
        ("notify: {external_url: 'trimtab'}", "notify.external_url is 'trimtab'"),
        (MAIL.replace("a@b.example", '"a@b\\r\\nBcc: x"'), "is not a mail address"),
        (MAIL.replace("c@d.example", "nobody"), "'nobody' is not a mail address; write ops@shop.example"),
        (MAIL.replace("[c@d.example]", "[]"), "notify.email.to"),
        (MAIL + "    username: me\n", "username and password belong together"),
        (MAIL + "    security: none\n    username: me\n    password: long-enough\n", "sent unencrypted"),
        (MAIL + "    security: ssl\n", "notify.email.security is 'ssl'"),
        ("notify: {silences: {n: {entities: [], begin: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z}}}",
         "notify.silences.n.entities"),
        ("notify: {silences: {n: {entities: [a], begin: '2026-01-02T00:00', until: 2026-01-03T00:00:00Z}}}",
         "notify.silences.n.begin"),
        ("notify: {silences: {n: {entities: [a], begin: 2026-01-02T00:00:00Z, until: 2026-01-01T00:00:00Z}}}",
         "must be after begin"),
        ("notify: {pager: {url: 'http://a'}}", "notify.pager"),
    ],
)  # fmt: skip
def test_an_error_is_explained(tmp_path, text, words):
    """The message has key, value (unless secret) and advice."""
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    assert words in str(error.value)
    assert "long-enough" not in str(error.value)
