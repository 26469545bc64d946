"""Formats rows as an aligned table, JSON or YAML."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

Row = Mapping[str, object]


class OutputFormat(StrEnum):
    """Values of the option `--format`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def format_rows(rows: Sequence[Row], columns: Sequence[str], output_format: OutputFormat) -> str:
    """Return the rows as text without a closing newline.

    columns : columns of a table, in this order; JSON and YAML contain every key of a row

    >>> rows = [{"name": "ci", "scopes": ["read", "ingest"]}]
    >>> print(format_rows(rows, ["name", "scopes"], OutputFormat.TABLE))
    name  scopes
    ci    read, ingest
    """
    if output_format is OutputFormat.JSON:
        import json

        return json.dumps([dict(row) for row in rows], indent=2, ensure_ascii=False)
    if output_format is OutputFormat.YAML:
        import yaml

        return str(yaml.safe_dump([dict(row) for row in rows], sort_keys=False, allow_unicode=True)).rstrip()
    return _table(rows, columns)


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return " ".join(str(value).split())
