"""`croissant.json`: the dataset as JSON-LD, after the Croissant format 1.0 of MLCommons (http://mlcommons.org/croissant/1.0)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.contract.contract import Contract
from engine.records.publish import DataExport
from engine.records.record import FileEntry

CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip
CONFORMS = "http://mlcommons.org/croissant/1.0"
PARQUET = "application/x-parquet"


def croissant(
    contract: Contract, export: DataExport, files: Sequence[FileEntry], schema: pa.Schema, docs: Mapping[str, str]
) -> dict[str, Any]:
    """Return the description of `files`, one Parquet file a split, each with the flat columns of `schema`; one record set each."""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": contract.name,
        "description": contract.specialist.goal,
        "license": sorted(export.by_licence) or ["unknown"],
        "inLanguage": list(contract.specialist.niche.languages),
        "version": "1.0.0",
        "datePublished": export.created,
        "url": f"urn:rayleigh:dataset:{export.dataset}",
        "citeAs": f"{contract.name}, dataset {export.dataset}, made by rayleigh",
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": file.path, "name": file.path, "contentUrl": file.path,
                "contentSize": f"{file.bytes} B", "encodingFormat": PARQUET, "sha256": file.sha256,
            }
            for file in files
        ],
        "recordSet": [_record_set(file, schema, docs) for file in files],
    }  # fmt: skip


def _record_set(file: FileEntry, schema: pa.Schema, docs: Mapping[str, str]) -> dict[str, Any]:
    split = file.path.rpartition("/")[2].partition(".")[0]
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "field": [
            {
                "@type": "cr:Field", "@id": f"{split}/{field.name}", "name": field.name, "description": docs.get(field.name, ""),
                "dataType": _type(field.type),
                "source": {"fileObject": {"@id": file.path}, "extract": {"column": field.name}},
            }
            for field in schema
        ],
    }  # fmt: skip


def _type(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return "sc:Float"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Boolean" if pa.types.is_boolean(kind) else "sc:Text"
