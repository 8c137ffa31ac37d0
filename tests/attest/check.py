"""Checks a build's documents by other people's programs: check.py KEY ENVELOPE SBOM

KEY is a key of artifacts, as /-/keys has it. Prints the files that the provenance is about, one `SHA256 NAME` a line.
"""

import base64
import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

key, envelope, sbom = sys.argv[1:]

# `Ed`, eight bytes of the id, and the key.
raw = base64.b64decode(key)
keyid = f"{int.from_bytes(raw[2:10], 'little'):016X}"
signed = Envelope.from_dict(json.loads(pathlib.Path(envelope).read_text()))
assert signed.payload_type == "application/vnd.in-toto+json", signed.payload_type
signed.verify([SSlibKey(keyid, "ed25519", "ed25519", {"public": raw[10:].hex()})], 1)

# Unknown fields are refused.
statement = json_format.Parse(signed.payload, statement_pb2.Statement())
Statement.copy_from_pb(statement).validate()
assert statement.predicate_type == "https://slsa.dev/provenance/v1", statement.predicate_type
predicate = json_format.Parse(json_format.MessageToJson(statement.predicate), provenance_pb2.Provenance())
assert predicate.build_definition.build_type and predicate.build_definition.external_parameters and predicate.run_details.builder.id
for descriptor in [*predicate.build_definition.resolved_dependencies, *predicate.run_details.byproducts]:
    ResourceDescriptor.copy_from_pb(descriptor).validate()
    assert descriptor.uri or descriptor.digest, descriptor

wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sbom).read_text())
assert wrong is None, wrong

for subject in statement.subject:
    print(subject.digest["sha256"], subject.name)
