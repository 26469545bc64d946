"""Series selectors in Prometheus syntax: a metric name with label matchers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SELECTOR = re.compile(r"\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(?P<inside>.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(
    r'\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*"(?P<value>(?:[^"\\]|\\.)*)"\s*(?:,|$)'
)


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric name ("" = any) with label matchers.

    >>> Selector.parse('http_requests_total{job=~"a|b",code!="500"}').matches(
    ...     "http_requests_total", {"job": "a"}
    ... )
    True
    """

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """(label, operator, value); a missing label counts as empty."""

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """Parse a selector. Raises ValueError with an example if it is invalid."""
        whole = _SELECTOR.fullmatch(text)
        if whole is None or (whole["name"] is None and not (whole["inside"] or "").strip()):
            raise _invalid_selector(text)
        matchers, position, inside = [], 0, (whole["inside"] or "").strip()
        while position < len(inside):
            matcher = _MATCHER.match(inside, position)
            if matcher is None:
                raise _invalid_selector(text)
            value = (
                re.sub(r"\\(.)", r"\1", matcher["value"]) if "~" not in matcher["op"] else matcher["value"]
            )
            if "~" in matcher["op"]:
                _check_expression(text, value)
            matchers.append((matcher["label"], matcher["op"], value))
            position = matcher.end()
        return cls(whole["name"] or "", tuple(matchers))

    def matches(self, metric: str, labels: Mapping[str, str]) -> bool:
        """Return whether a series matches; regular expressions match the whole value."""
        if self.metric and metric != self.metric:
            return False
        named = {"__name__": metric, **labels}
        return all(_is_satisfied(named.get(label, ""), op, value) for label, op, value in self.matchers)


def _is_satisfied(actual: str, op: str, value: str) -> bool:
    is_equal = re.fullmatch(value, actual) is not None if "~" in op else actual == value
    return is_equal != op.startswith("!")


def _check_expression(text: str, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(
            f"{text!r} contains {expression!r}, which is not a valid regular expression: {error}"
        ) from None


def _invalid_selector(text: str) -> ValueError:
    return ValueError(f'{text!r} is not a valid selector; an example is http_requests_total{{job="shop"}}')
