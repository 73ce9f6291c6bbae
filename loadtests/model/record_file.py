"""Run records as JSON files."""

from pathlib import Path
from typing import Any

import msgspec

from config.model.units import encodable
from config.problems.secrets import MASK, is_secret_name
from loadtests.model.errors import RecordError
from loadtests.model.run_record import RunHeader, RunRecord
from loadtests.model.scenario import Scenario

_MAX_BYTES = 1 << 30


class _Kind(msgspec.Struct):
    format: str = ""
    version: int = 0


def encode_record(record: RunRecord) -> bytes:
    """As JSON. Values of headers that may be secrets are masked."""
    header = msgspec.structs.replace(record.header, scenario=without_secrets(record.header.scenario))
    return msgspec.json.encode(msgspec.structs.replace(record, header=header), enc_hook=encodable) + b"\n"


def decode_record(raw: bytes, name: str) -> RunRecord:
    """The inverse of `encode_record`. `name`: of the file, for messages. Raises RecordError."""
    try:
        kind = msgspec.json.decode(raw, type=_Kind)
    except msgspec.DecodeError as error:
        raise RecordError(f"{name} is not a run record: {error}") from None
    if kind.format != "penstock-load-run":
        raise RecordError(f"{name} is not a run record: penstock load run --out FILE writes one")
    if kind.version != 2:
        raise RecordError(
            f"{name} is a run record of version {kind.version}, and this program reads version 2: run the test again"
        )
    try:
        return msgspec.json.decode(raw, type=RunRecord, dec_hook=lambda kind, value: kind(value))
    except msgspec.DecodeError as error:
        raise RecordError(f"{name} is a damaged run record: {error}") from None


def read_record(path: Path) -> RunRecord:
    """Raises RecordError."""
    return decode_record(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """All of a record's file. Raises RecordError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecordError(f"{path} is larger than {_MAX_BYTES >> 30} GiB: that is no run record")
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from None


def record_schema() -> dict[str, Any]:
    """The JSON Schema of run records. The scenario inside has one of its own: `penstock load schema`."""
    header = _with_types(RunHeader, {"scenario": dict[str, Any]})
    return msgspec.json.schema(_with_types(RunRecord, {"header": header}))


def schema_without_scenario(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a record whose `scenario` has a schema of its own."""
    return msgspec.json.schema(_with_types(struct, {"scenario": dict[str, Any]}))


def _with_types(struct: type[msgspec.Struct], types: dict[str, Any]) -> type[msgspec.Struct]:
    """The same struct, in which some fields have other types."""
    fields = msgspec.structs.fields(struct)
    return msgspec.defstruct(
        struct.__name__,
        [
            (field.name, types.get(field.name, field.type), *([] if field.required else [field.default]))
            for field in fields
        ],
    )


def without_secrets(scenario: Scenario) -> Scenario:
    """The scenario with masked values of headers whose names are those of secrets."""
    target = msgspec.structs.replace(scenario.target, headers=_masked(scenario.target.headers))
    tenants = {
        name: msgspec.structs.replace(tenant, headers=_masked(tenant.headers))
        for name, tenant in scenario.tenants.items()
    }
    mix = tuple([msgspec.structs.replace(kind, headers=_masked(kind.headers)) for kind in scenario.mix])
    return msgspec.structs.replace(scenario, target=target, tenants=tenants, mix=mix)


def _masked(headers: dict[str, str]) -> dict[str, str]:
    return {name: MASK if is_secret_name(name) else value for name, value in headers.items()}
