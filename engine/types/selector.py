"""Which series are meant: a metric name with matchers, as Prometheus writes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SELECTOR = re.compile(r"\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(?P<inside>.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(
    r'\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*"(?P<value>(?:[^"\\]|\\.)*)"\s*(?:,|$)'
)


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector.

    >>> Selector.parse('http_requests_total{job=~"a|b",code!="500"}').matches(
    ...     "http_requests_total", {"job": "a"}
    ... )
    True
    """

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """(label, operator, value); a label that is missing is empty."""

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """Raises ValueError, saying how one is written."""
        whole = _SELECTOR.fullmatch(text)
        if whole is None or (whole["name"] is None and not (whole["inside"] or "").strip()):
            raise _invalid_selector(text)
        found, at, inside = [], 0, (whole["inside"] or "").strip()
        while at < len(inside):
            one = _MATCHER.match(inside, at)
            if one is None:
                raise _invalid_selector(text)
            value = re.sub(r"\\(.)", r"\1", one["value"]) if "~" not in one["op"] else one["value"]
            if "~" in one["op"]:
                _check_expression(text, value)
            found.append((one["label"], one["op"], value))
            at = one.end()
        return cls(whole["name"] or "", tuple(found))

    def matches(self, metric: str, labels: Mapping[str, str]) -> bool:
        """Whether a series of that name and these labels is meant; expressions match the whole value."""
        if self.metric and metric != self.metric:
            return False
        named = {"__name__": metric, **labels}
        return all(_is_satisfied(named.get(label, ""), op, value) for label, op, value in self.matchers)


def _is_satisfied(given: str, op: str, value: str) -> bool:
    alike = re.fullmatch(value, given) is not None if "~" in op else given == value
    return alike != op.startswith("!")


def _check_expression(text: str, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"{text!r} holds {expression!r}, which is no regular expression: {error}") from None


def _invalid_selector(text: str) -> ValueError:
    return ValueError(f'{text!r} selects no series; write it such as http_requests_total{{job="shop"}}')
