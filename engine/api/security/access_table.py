"""Access table: (method, route) -> required scope. Routes that are not in the table are refused."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from trimtab.engine.errors import SettingsError


class Scope(StrEnum):
    """Permission of an API key. `admin` includes every other scope."""

    READ = "read"
    INGEST = "ingest"
    PROPOSE = "propose"
    APPROVE = "approve"
    EXECUTE = "execute"
    ADMIN = "admin"


class AccessRule(StrEnum):
    """Access rule of routes that require no particular scope."""

    OPEN = "open"
    """No authentication."""
    PROBE = "open, whatever the Host header"
    """No authentication and no check of the Host header, for probes that know only an address."""
    LOOPBACK = "open on loopback, else read"
    ANY_KEY = "any live key"


SCOPES = tuple(Scope)
BODY_LIMIT_BYTES = 1_000_000

ACCESS: dict[tuple[str, str], Scope | AccessRule] = {
    ("GET", "/api/health/live"): AccessRule.PROBE,
    ("GET", "/api/health/ready"): AccessRule.PROBE,
    ("GET", "/api/metrics"): AccessRule.LOOPBACK,
    ("GET", "/api/status"): Scope.READ,
    ("GET", "/api/series"): Scope.READ,
    ("GET", "/api/series/{series_id}"): Scope.READ,
    ("GET", "/api/series/{series_id}/scores"): Scope.READ,
    ("GET", "/api/anomalies"): Scope.READ,
    ("GET", "/api/anomalies/{anomaly_id}"): Scope.READ,
    ("POST", "/api/anomalies/{anomaly_id}/feedback"): Scope.PROPOSE,
    ("GET", "/api/incidents"): Scope.READ,
    ("GET", "/api/incidents/{incident_id}"): Scope.READ,
    ("POST", "/api/incidents/{incident_id}/acknowledge"): Scope.PROPOSE,
    ("POST", "/api/incidents/{incident_id}/resolve"): Scope.PROPOSE,
    ("POST", "/api/incidents/{incident_id}/reopen"): Scope.PROPOSE,
    ("POST", "/api/incidents/{incident_id}/merge"): Scope.PROPOSE,
    ("POST", "/api/incidents/{incident_id}/split"): Scope.PROPOSE,
    ("GET", "/api/changes"): Scope.READ,
    ("POST", "/api/changes"): Scope.INGEST,
    ("POST", "/api/alerts"): Scope.INGEST,
    ("GET", "/api/capacity"): Scope.READ,
    ("GET", "/api/capacity/{name}"): Scope.READ,
    ("GET", "/api/capacity/{name}/keda"): Scope.READ,
    ("GET", "/api/recommendations"): Scope.READ,
    ("GET", "/api/recommendations/shadow"): Scope.READ,
    ("GET", "/api/recommendations/{recommendation_id}"): Scope.READ,
    ("POST", "/api/recommendations/{recommendation_id}/approve"): Scope.APPROVE,
    ("POST", "/api/recommendations/{recommendation_id}/dismiss"): Scope.APPROVE,
    ("POST", "/api/recommendations/{recommendation_id}/schedule"): Scope.APPROVE,
    ("POST", "/api/recommendations/{recommendation_id}/apply"): Scope.EXECUTE,
    ("GET", "/api/actions"): Scope.READ,
    ("GET", "/api/actions/{action_id}"): Scope.READ,
    ("POST", "/api/actions/{action_id}/rollback"): Scope.EXECUTE,
    ("GET", "/api/silences"): Scope.READ,
    ("POST", "/api/silences"): Scope.APPROVE,
    ("DELETE", "/api/silences/{silence_id}"): Scope.APPROVE,
    ("GET", "/api/audit"): Scope.READ,
    ("GET", "/api/audit/verify"): Scope.READ,
    ("GET", "/api/pause"): Scope.READ,
    ("POST", "/api/pause"): Scope.EXECUTE,
    ("DELETE", "/api/pause"): Scope.APPROVE,
    ("GET", "/api/tools"): Scope.READ,
    ("GET", "/api/tools/{name}"): Scope.READ,
    ("PUT", "/api/tools/{name}"): Scope.ADMIN,
    ("GET", "/api/tools/{name}/targets/{target}"): Scope.READ,
    ("POST", "/api/tools/{name}/targets/{target}/actions/{action}"): Scope.EXECUTE,
    ("PUT", "/api/tools/{name}/targets/{target}/knobs/{knob}"): Scope.EXECUTE,
    ("GET", "/api/knobs"): Scope.READ,
    ("GET", "/api/forecasts"): Scope.READ,
    ("GET", "/api/forecasts/{series_id}/before"): Scope.READ,
    ("GET", "/api/models"): Scope.READ,
    ("POST", "/api/models/{name}/promote"): Scope.APPROVE,
    ("POST", "/api/models/{name}/rollback"): Scope.APPROVE,
    ("GET", "/api/pipelines/{name}/runs"): Scope.READ,
    ("POST", "/api/pipelines/{name}/runs"): Scope.EXECUTE,
    ("GET", "/api/stream"): Scope.READ,
    ("GET", "/api/session"): AccessRule.ANY_KEY,
    ("POST", "/api/session"): AccessRule.OPEN,
    ("DELETE", "/api/session"): AccessRule.ANY_KEY,
    ("GET", "/login"): AccessRule.OPEN,
    ("GET", "/api/keys"): Scope.ADMIN,
    ("POST", "/api/keys"): Scope.ADMIN,
    ("DELETE", "/api/keys/{key_id}"): Scope.ADMIN,
    ("GET", "/api/openapi.json"): Scope.READ,
    ("GET", "/api-docs"): AccessRule.OPEN,
    ("GET", "/api-docs/{asset}"): AccessRule.OPEN,
}
"""Dashboard files need no entry: every path outside /api, /api-docs and /login is open."""

BROWSER_ONLY = frozenset({("DELETE", "/api/pause")})
"""Routes that also require a browser session: only an operator may end a pause, not a program."""

_PROTECTED_PREFIXES = ("/api/", "/api-docs/", "/login/")


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The declared route of a request.

    route : path template; "static" for dashboard files, "unknown" for undeclared paths
    access : required access; None = the path does not have this method
    methods : methods of the path
    """

    route: str
    access: Scope | AccessRule | None
    methods: tuple[str, ...] = ()


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", template)
    return re.compile("[^/]+".join(map(re.escape, parts)))


class AccessTable:
    """The access table, looked up by path and method.

    >>> AccessTable(ACCESS).match("GET", "/api/series/abc/scores").access
    <Scope.READ: 'read'>
    >>> AccessTable(ACCESS).match("GET", "/api/nothing").access
    <AccessRule.ANY_KEY: 'any live key'>
    """

    def __init__(self, access: dict[tuple[str, str], Scope | AccessRule]) -> None:
        self._routes: dict[str, dict[str, Scope | AccessRule]] = {}
        for (method, template), rule in access.items():
            self._routes.setdefault(template, {})[method] = rule
        self._templates = [(_pattern(template), template) for template in self._routes if "{" in template]

    def match(self, method: str, path: str) -> RouteMatch:
        """Return the route and its required access; an unknown path under /api requires any live key."""
        template = self._template(path)
        if template is not None:
            rules = self._routes[template]
            return RouteMatch(template, rules.get(method), tuple(sorted(rules)))
        if f"{path}/".startswith(_PROTECTED_PREFIXES):
            return RouteMatch("unknown", AccessRule.ANY_KEY)
        return RouteMatch("static", AccessRule.OPEN if method in {"GET", "HEAD"} else None, ("GET", "HEAD"))

    def _template(self, path: str) -> str | None:
        if path in self._routes:
            return path
        return next((template for pattern, template in self._templates if pattern.fullmatch(path)), None)


def is_allowed(access: Scope | AccessRule, scopes: Collection[str]) -> bool:
    """Return whether a live key with these scopes has access.

    >>> is_allowed(Scope.PROPOSE, ["read"]), is_allowed(Scope.PROPOSE, ["admin"])
    (False, True)
    >>> is_allowed(AccessRule.ANY_KEY, [])
    True
    """
    if access is AccessRule.LOOPBACK:
        access = Scope.READ
    return isinstance(access, AccessRule) or access in scopes or Scope.ADMIN in scopes


def check_declared(routes: Iterable[tuple[str, str]]) -> None:
    """Check that the application serves exactly the declared routes. Raises SettingsError.

    routes : (method, path template) of each route
    """
    found = set(routes)
    undeclared, missing = found - ACCESS.keys(), ACCESS.keys() - found
    if undeclared:
        raise SettingsError(
            f"routes {sorted(undeclared)} are missing in engine/api/security/access_table.py; "
            "add their scopes"
        )
    if missing:
        raise SettingsError(
            f"engine/api/security/access_table.py declares {sorted(missing)}, "
            "which the application does not serve"
        )
