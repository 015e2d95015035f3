"""Sources in rows: JSON lines, Parquet and Hugging Face datasets; a bad row costs itself alone."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.web.config import IngestConfig
from tasks.web.records import Fault, Record
from tasks.web.row_lines import pieces, row_lines

ROWS_AT_ONCE = 64


class DatasetError(ValueError):
    """A Hugging Face dataset that cannot be read; the message says why, and the mend."""


DATASET_OPTIONS = ("config", "split", "revision", "data_files")


def row_record(row: Any, number: int, source: str, config: IngestConfig) -> Record | Fault:
    """A row (a mapping) as a record: its page where the config names a column for one, else its text."""
    if not isinstance(row, Mapping):
        return Fault("", number, "bad_row", f"not an object but {type(row).__name__}")
    url = row.get(config.url_field)
    url = _clean(url) if isinstance(url, str) and url else f"file:///{source}#{number}"
    page = row.get(config.html_field) if config.html_field else None
    text = row.get(config.text_field)
    content: bytes | None = None
    if page is not None:
        if not isinstance(page, str | bytes):
            return Fault(
                url, number, "bad_row", f"{config.html_field!r} is no page but {type(page).__name__}"
            )
        content, text = (page.encode("utf-8", "replace") if isinstance(page, str) else page), None
    elif isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return Fault(url, number, "bad_text", str(error)[:200])
    elif not isinstance(text, str):
        return Fault(url, number, "no_text", _instead(row, text, config.text_field))
    else:
        text = _clean(text)
    if len(content or text or "") > config.max_record_bytes:
        return Fault(url, number, "too_large", f"a row over {config.max_record_bytes}")
    media_type = "text/plain" if content is None else "text/html"
    charset = "utf-8" if isinstance(page, str) else ""
    title, date, author = (_clean(row[k]) if isinstance(row.get(k), str) else "" for k in _SAID)
    return Record(
        url, content, text, media_type, charset, None, source, number, title=title, date=date, author=author
    )


def _instead(row: Mapping[Any, Any], found: Any, field: str) -> str:
    """What a row has where its text should be."""
    if found is not None:
        return f"column {field!r} holds no text but {type(found).__name__}"
    return f"no text in column {field!r}; columns: {', '.join(sorted(map(str, row))[:12])}"


_SAID = ("title", "date", "author")


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: JSON may spell out lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unreadable(path: Path, kind: str, config: IngestConfig) -> str:
    """What keeps every row of a file from being read, with the mend; empty where nothing is seen at once."""
    try:
        if kind == "parquet":
            return _without_columns(pq.read_schema(path).names, config)
        return _no_lines(path) if kind == "jsonl" else ""
    except (pa.ArrowException, OSError):
        return ""  # met, and named, when the file is read


def _without_columns(names: list[str], config: IngestConfig) -> str:
    wanted = [field for field in (config.html_field, config.text_field) if field]
    if set(wanted) & set(names):
        return ""
    return (
        f"has no column {' or '.join(map(repr, wanted))} but {', '.join(map(repr, names[:20]))}; name the "
        f"one that holds the text in ingest.text_field, or pages in ingest.html_field"
    )


def _no_lines(path: Path) -> str:
    head = next(pieces(path), b"")
    if isinstance(head, Fault):
        return ""
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if head[:1] == b"[":
        return (
            "is one JSON array and no JSON Lines; write a row a line, as by: jq -c '.[]' IN.json > OUT.jsonl"
        )
    if head[:1] == b"{" and not head[1:].partition(b"\n")[0].strip() and b"\n" in head:
        return "is one JSON object over many lines and no JSON Lines; write its rows a line each, as by jq -c"
    return ""


def is_document(file: Path) -> bool:
    """Whether a .json file is one document and no rows."""
    return file.suffix.lower() == ".json" and bool(_no_lines(file))


def read_jsonl(path: Path, name: str, config: IngestConfig) -> Iterator[Record | Fault]:
    """Rows of a .jsonl file, plain, gzip or zstd, in whatever charset; the offset is the line's number, from
    0."""
    lines = enumerate(row_lines(path, config.max_record_bytes))
    rows = ((number, line) for number, line in lines if isinstance(line, Fault) or line.strip())
    for number, line in islice(rows, config.max_rows or None):
        if isinstance(line, Fault):
            yield Fault(line.url, number, line.reason, line.detail)
        else:
            yield _json_record(line, number, name, config)


def _json_record(line: bytes, number: int, name: str, config: IngestConfig) -> Record | Fault:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Fault("", number, "bad_json", f"line {number + 1}: {error}")
    return row_record(row, number, name, config)


def read_parquet(
    path: Path, name: str, config: IngestConfig, start: int = 0, end: int | None = None
) -> Iterator[Record | Fault]:
    """Rows of a Parquet file's row groups ``start`` to ``end``; the offset is the row's number, from 0."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        yield Fault("", 0, "bad_parquet", str(error)[:200])
        return
    with file:
        columns = _wanted_columns(file.schema_arrow, config)
        number = sum(file.metadata.row_group(i).num_rows for i in range(start))
        groups = file.num_row_groups  # none at all, where Spark had no rows to write
        for group in range(start, groups if end is None else min(end, groups)):
            following = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                    for row in _rows_of(batch):
                        if config.max_rows and number >= config.max_rows:
                            return
                        if isinstance(row, str):
                            yield Fault("", number, "bad_text", row)
                        else:
                            yield row_record(row, number, name, config)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                yield Fault("", number, "bad_parquet", f"row group {group}: {error!s:.200}")
            number = following


def _wanted_columns(schema: pa.Schema, config: IngestConfig) -> list[str]:
    """The columns to read, of those there are: what is no text where only text counts is left out, as are
    pictures and dates that no Python object can hold."""
    said = [name for name in (config.url_field, *_SAID) if name in schema.names and _holds_text(schema, name)]
    wanted = [config.text_field, config.html_field, *said]
    return [name for name in dict.fromkeys(wanted) if name in schema.names]


def _holds_text(schema: pa.Schema, name: str) -> bool:
    found = schema.types[schema.names.index(name)]
    kind = found.value_type if pa.types.is_dictionary(found) else found
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    """A batch's rows; what is wrong in place of one that is not UTF-8, which not all writers check."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield str(error)[:200]


def parquet_groups(path: Path) -> int:
    """Row groups of a Parquet file; 1 where it cannot be opened, so that the fault is met when reading."""
    try:
        with pq.ParquetFile(path) as file:
            return max(1, int(file.num_row_groups))
    except (pa.ArrowException, OSError):
        return 1


def read_dataset(uri: str, name: str, config: IngestConfig) -> Iterator[Record | Fault]:
    """Rows of a Hugging Face dataset, streamed: ``hf://NAME-OR-FOLDER?config=…&split=train&revision=…``.

    ``data_files`` names files or addresses for a loader (``hf://json?data_files=https://…/rows.jsonl``).

    Raises DatasetError where the dataset cannot be had, a file of it is broken, or its first row has no
    column to read; of a wrong split or configuration, and of the network, what ``datasets`` raises.
    """
    import datasets

    path, options = parse_dataset(uri)
    try:
        stream = datasets.load_dataset(
            path,
            options.get("config"),
            data_files=options.get("data_files"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=True,
        )
        if stream.features:
            schema = stream.features.arrow_schema
            if wrong := _without_columns(schema.names, config):
                raise DatasetError(f"the dataset {wrong}")
            stream = stream.select_columns(_wanted_columns(schema, config))
        for number, row in enumerate(islice(stream, config.max_rows or None)):
            if not number and (wrong := _without_columns(list(row), config)):
                raise DatasetError(f"the dataset {wrong}")
            yield row_record(row, number, name, config)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DatasetError(
            f"{error} A private or gated one needs a token that may read it in HF_TOKEN."
        ) from error
    except FileNotFoundError as error:
        web = options.get("data_files", "").startswith(("http://", "https://"))
        mend = f"; as a source by itself, {options['data_files']!r} tells its server's answer" if web else ""
        raise DatasetError(f"{error}{mend}") from error
    except pa.ArrowException as error:
        raise DatasetError(
            f"{str(error).rstrip('.')}; files that are named without hf:// lose their broken rows alone"
        ) from error


def parse_dataset(uri: str) -> tuple[str, dict[str, str]]:
    """``hf://owner/name?split=train`` as a name and options; ValueError where an option is not known."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if "split" in options:  # where a plus stands for a blank, and a blank in none of them
        options["split"] = options["split"].replace(" ", "+")
    unknown = sorted(set(options) - set(DATASET_OPTIONS))
    if unknown:
        known = ", ".join(DATASET_OPTIONS)
        raise ValueError(f"{uri!r} has an option {unknown[0]!r}; known are {known}")
    return parts.netloc + parts.path, options
