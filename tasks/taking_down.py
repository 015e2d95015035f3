"""Stages that leave out what was taken down, from documents that were read and from the held-out ones.

They run only for artifacts that hold such a document, and only the rules that mean one of it are in their
key: a longer list costs nothing where it means nothing.
"""

from __future__ import annotations

from collections import Counter
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.artifacts import Artifact
from storage.documents import PartWriter, read_rows
from storage.schemas import DOCUMENTS, REJECTS, SIGNATURES
from storage.store import Store
from storage.takedowns import requests
from tasks.hold_out import HELD_OUT
from tasks.stage import StageRun, stage
from tasks.text.dedup import NothingLeftError
from tasks.web.takedown import REASON, hits, match

READ = "documents.parquet"
DROPPED, SIGNED = "rejects.parquet", "signatures.parquet"


def rules_that_hit(store: Store, artifact: Artifact, rules: list[str]) -> list[str]:
    """Those of the rules that mean a document of what ``ingest``, ``deduplicate`` or ``hold_out`` made."""
    found: set[str] = set()
    for file in _documents(store.open(artifact)) if rules else ():
        table = pq.read_table(file, columns=["url", "domain"])
        found.update(hits(table["url"], table["domain"], [rule for rule in rules if rule not in found]))
    return [rule for rule in rules if rule in found]


def documents_meant(store: Store, artifact: Artifact, rules: list[str]) -> int:
    """How many documents of such an artifact at least one of the rules means."""
    count = 0
    for file in _documents(store.open(artifact)):
        table = pq.read_table(file, columns=["url", "domain"])
        masks = (match(table["url"], table["domain"], rule) for rule in rules)
        count += pc.sum(reduce(pc.or_, masks)).as_py() or 0
    return count


@stage("take_down", summary="Leave out what was taken down")
def take_down(run: StageRun, documents: Artifact, rules: list[str]) -> dict[str, Any]:
    """Write ``documents.parquet`` without what the rules mean, and the left-out ones' ``rejects.parquet``."""
    dropped = _drop(run, run.open(documents), READ, rules)
    kept, out = run.rows[READ], dropped["rejects"]
    return {
        "records": kept + out,
        "documents": kept,
        **dropped,
        "source": documents.stats["source"],
        "in": {"documents": kept + out},
        "out": {"documents": kept, "taken down": out},
    }


@stage("hold_out", summary="Leave out what was taken down from what is evaluated on")
def withdraw_held_out(run: StageRun, heldout: Artifact, rules: list[str]) -> dict[str, Any]:
    """As ``hold_out`` writes it, without what the rules mean: another set, and so another comparison.

    Raises NothingLeftError where nothing is left.
    """
    folder = run.open(heldout)
    dropped = _drop(run, folder, HELD_OUT, rules)
    kept = {row["doc_id"] for row in read_rows(run.path / HELD_OUT, ["doc_id"])}
    if not kept:
        raise NothingLeftError(
            "every held-out document was taken down: give the configuration a new `lineage`, which holds "
            "other documents out"
        )
    with PartWriter(run.path / SIGNED, SIGNATURES) as writer:
        writer.write_all(row for row in read_rows(folder / SIGNED) if row["doc_id"] in kept)
    run.rows[SIGNED] = writer.rows
    return {"documents_in": len(kept) + dropped["rejects"], "documents": len(kept), **dropped}


def _documents(folder: Path) -> list[Path]:
    whole = [folder / name for name in (READ, HELD_OUT) if (folder / name).is_file()]
    return whole or sorted(folder.glob("part-*.parquet"))


def _drop(run: StageRun, folder: Path, name: str, rules: list[str]) -> dict[str, Any]:
    """Copy a part without what the rules mean; writes the rejects and returns their numbers, by rule too.

    The log says for each rule which request it goes back to.
    """
    dropped: Counter[str] = Counter()
    with (
        PartWriter(run.path / name, DOCUMENTS) as documents,
        PartWriter(run.path / DROPPED, REJECTS) as rejects,
        pq.ParquetFile(folder / name) as source,
    ):
        for batch in source.iter_batches(batch_size=512):
            table = pa.Table.from_batches([batch])
            found = [match(table["url"], table["domain"], wanted) for wanted in rules]
            for place, row in enumerate(table.to_pylist(maps_as_pydicts="strict")):
                means = next((i for i, mask in enumerate(found) if mask[place].as_py()), None)
                if means is None:
                    documents.write(row)
                else:
                    rejects.write(_reject(row, rules[means]))
                    dropped[rules[means]] += 1
    run.rows.update({name: documents.rows, DROPPED: rejects.rows})
    for rule, told in requests(run.store, rules).items():
        run.log.info("%d documents left out: %s", dropped[rule], told)
    return {"rejects": rejects.rows, "reasons": {REASON: rejects.rows}, "rules": dict(dropped)}


def _reject(row: dict[str, Any], rule: str) -> dict[str, Any]:
    """A row of REJECTS that repeats nothing of the text."""
    return {
        **{name: row[name] for name in ("doc_id", "url", "domain")},
        "language": row["language"] or "",
        "stage": "take_down",
        "reason": REASON,
        "value": None,
        "threshold": None,
        "detail": f"on the takedown list: {rule}",
        "excerpt": "",
    }
