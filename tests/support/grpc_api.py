"""The public gRPC services, in the terms of the HTTP API: requests and answers as its JSON.

Stubs are made by protoc when they are first needed. A request that has no message (parameters from
before expressions, values of wrong types) is Unrepresentable.
"""

import base64
import functools
import importlib
import shutil
import subprocess
import sys
import tempfile

from support.needs import missing
from support.server import REPOSITORY

PROTOS = REPOSITORY / "common" / "proto"
GRPC_PROTOS = "/usr/share/grpc-proto"
BARE = {"Item", "StringSet", "NumberSet", "BinarySet", "ListValue", "MapValue", "Items", "WriteRequests",
        "ItemCollectionMetricsList"}


@functools.lru_cache(maxsize=None)
def stubs_folder():
    """A folder of generated modules, in sys.path for the rest of the run."""
    try:
        import grpc  # noqa: F401
    except ImportError:
        missing("python3-grpcio")
    for program in ("protoc", "grpc_python_plugin"):
        if not shutil.which(program):
            missing(program)
    folder = tempfile.mkdtemp(prefix="onggi-stubs-")
    files = [str(p.relative_to(PROTOS)) for p in sorted((PROTOS / "onggi" / "v1").glob("*.proto"))]
    plugin = "--plugin=protoc-gen-grpc=" + shutil.which("grpc_python_plugin")
    subprocess.run(["protoc", f"-I{PROTOS}", f"--python_out={folder}", f"--grpc_out={folder}", plugin, *files],
                   check=True)
    sys.path.insert(0, folder)
    return folder


def module(name):
    """onggi.v1.<name>, such as key_value_pb2."""
    stubs_folder()
    return importlib.import_module("onggi.v1." + name)


@functools.lru_cache(maxsize=None)
def common_module(name):
    """A module of gRPC's own services: ("reflection", "v1alpha"), ("health", "v1")."""
    folder = stubs_folder()
    path = {"reflection": "grpc/reflection/v1alpha/reflection.proto", "health": "grpc/health/v1/health.proto"}[name]
    made = subprocess.run(["protoc", f"-I{GRPC_PROTOS}", f"--python_out={folder}", path], capture_output=True)
    if made.returncode != 0:
        missing("grpc-proto")
    # `grpc` itself is a package elsewhere: its path is extended by ours.
    import grpc
    if folder + "/grpc" not in grpc.__path__:
        grpc.__path__.append(folder + "/grpc")
    return importlib.import_module(path.removesuffix(".proto").replace("/", ".") + "_pb2")


class Unrepresentable(Exception):
    """The JSON has no message."""


def api_name(field):
    return field.json_name[0].upper() + field.json_name[1:]


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def enum_prefix(enum):
    return "".join("_" + c if c.isupper() and i else c for i, c in enumerate(enum.name)).upper() + "_"


def scalar(field, value):
    if field.enum_type is not None:
        if not isinstance(value, str):
            raise Unrepresentable(field.full_name)
        known = field.enum_type.values_by_name.get(enum_prefix(field.enum_type) + value)
        if known is None or known.number == 0:
            raise Unrepresentable(f"{field.full_name} = {value}")
        return known.number
    if field.type == field.TYPE_BYTES:
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            raise Unrepresentable(field.full_name) from None
    kinds = {field.TYPE_STRING: str, field.TYPE_BOOL: bool, field.TYPE_INT32: int, field.TYPE_INT64: int}
    if type(value) is not kinds[field.type]:
        raise Unrepresentable(f"{field.full_name} = {value!r}")
    if isinstance(value, int) and abs(value) >= 2 ** (31 if field.type == field.TYPE_INT32 else 63):
        raise Unrepresentable(f"{field.full_name} = {value!r}")
    return value


def fill(message, body):
    """Puts API JSON into a message."""
    descriptor = message.DESCRIPTOR
    if descriptor.name in BARE:
        message.SetInParent()
        return fill_field(message, descriptor.fields[0], body)
    if not isinstance(body, dict):
        raise Unrepresentable(f"{descriptor.name} = {body!r}")
    fields = {api_name(f): f for f in descriptor.fields}
    if descriptor.name == "AttributeValue" and len(body) != 1:
        raise Unrepresentable("a value of several types, or none")
    message.SetInParent()
    for name, value in body.items():
        if value is None:
            continue
        if name not in fields:
            raise Unrepresentable(f"{descriptor.name}.{name}")
        fill_field(message, fields[name], value)


def fill_field(message, field, value):
    target = getattr(message, field.name)
    if is_map(field):
        if not isinstance(value, dict) or (not value and message.DESCRIPTOR.name not in BARE):
            raise Unrepresentable(f"{field.full_name} = {value!r}")
        inner = field.message_type.fields_by_name["value"]
        for key, one in value.items():
            if inner.message_type is not None:
                fill(target[key], one)
                target[key].SetInParent()
            else:
                target[key] = scalar(inner, one)
    elif field.label == field.LABEL_REPEATED:
        if not isinstance(value, list) or (not value and message.DESCRIPTOR.name not in BARE):
            raise Unrepresentable(f"{field.full_name} = {value!r}")
        for one in value:
            if field.message_type is not None:
                fill(target.add(), one)
            else:
                target.append(scalar(field, one))
    elif field.message_type is not None:
        fill(target, value)
    else:
        setattr(message, field.name, scalar(field, value))


def value_json(field, value):
    if field.message_type is not None:
        return to_json(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name.removeprefix(enum_prefix(field.enum_type))
    if field.type == field.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value


def field_json(message, field):
    value = getattr(message, field.name)
    if is_map(field):
        inner = field.message_type.fields_by_name["value"]
        return {key: value_json(inner, value[key]) for key in value}
    if field.label == field.LABEL_REPEATED:
        return [value_json(field, one) for one in value]
    return value_json(field, value)


def to_json(message):
    """A message as API JSON: what is not set is left out."""
    descriptor = message.DESCRIPTOR
    if descriptor.name in BARE:
        return field_json(message, descriptor.fields[0])
    if descriptor.full_name == "google.protobuf.Timestamp":
        return message.seconds + message.nanos / 1e9
    out = {}
    for field in descriptor.fields:
        if field.label == field.LABEL_REPEATED:
            present = len(getattr(message, field.name)) > 0
        else:
            present = not field.has_presence or message.HasField(field.name)
        if present:
            out[api_name(field)] = field_json(message, field)
    return out


class GrpcResponse:
    """What Response has, of a call: status is 200, or that of the HTTP API's error."""

    def __init__(self, body=None, error=None, code=None, metadata=None):
        self.status = 200 if error is None else 500 if error.type == "InternalServerError" else 400
        self.code = code
        self.json = body
        self.error_type = error.type if error is not None else ""
        self.message = (error.message or None) if error is not None else None
        self.metadata = metadata or {}
        if error is not None:
            self.json = {}
            if error.HasField("item"):
                self.json["Item"] = to_json(error.item)

    def __repr__(self):
        return f"<{self.status} {self.code} {self.error_type} {self.message} {self.json}>"


def error_of(failure):
    """The onggi.v1.Error of a grpc.RpcError; None without one."""
    details = dict(failure.trailing_metadata() or ()).get("grpc-status-details-bin")
    if details is None:
        return None
    # google.rpc.Status has the shape of these three fields.
    from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
    pool = descriptor_pool.Default()
    try:
        status = pool.FindMessageTypeByName("onggi.test.RpcStatus")
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto(name="onggi_test_status.proto", package="onggi.test",
                                                  syntax="proto3", dependency=["google/protobuf/any.proto"])
        made = file.message_type.add(name="RpcStatus")
        made.field.add(name="code", number=1, type=5, label=1)
        made.field.add(name="message", number=2, type=9, label=1)
        made.field.add(name="details", number=3, type=11, label=3, type_name=".google.protobuf.Any")
        pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
        pool.Add(file)
        status = pool.FindMessageTypeByName("onggi.test.RpcStatus")
    parsed = message_factory.MessageFactory(pool).GetPrototype(status)()
    parsed.ParseFromString(details)
    for detail in parsed.details:
        if detail.type_url == "type.googleapis.com/onggi.v1.Error":
            error = module("item_pb2").Error()
            error.ParseFromString(detail.value)
            return error
    return None


class GrpcApi:
    """Api over gRPC: call(operation, request) as the HTTP API has it."""

    SERVICES = ("key_value", "KeyValue"), ("tables", "Tables")

    def __init__(self, address, metadata=(), channel=None, timeout_s=60):
        import grpc
        self.grpc = grpc
        self.channel = channel or grpc.insecure_channel(address, options=[
            ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
            ("grpc.max_metadata_size", 2 << 20), ("grpc.enable_http_proxy", 0)])
        self.metadata = tuple(metadata)
        self.timeout_s = timeout_s
        self.methods = {}
        for file, name in self.SERVICES:
            messages = module(file + "_pb2")
            service = messages.DESCRIPTOR.services_by_name[name]
            stub = getattr(module(file + "_pb2_grpc"), name + "Stub")(self.channel)
            for method in service.methods:
                request = getattr(messages, method.input_type.name)
                self.methods[method.name] = (getattr(stub, method.name), request)

    def message(self, operation, body):
        request = self.methods[operation][1]()
        fill(request, body)
        return request

    def send(self, operation, message, metadata=(), **options):
        """A call with a message; returns GrpcResponse."""
        stub = self.methods[operation][0]
        options.setdefault("timeout", self.timeout_s)
        try:
            response, call = stub.with_call(message, metadata=self.metadata + tuple(metadata), **options)
        except self.grpc.RpcError as failure:
            error = error_of(failure)
            if error is None:
                raise
            return GrpcResponse(None, error, failure.code(), dict(failure.initial_metadata()))
        return GrpcResponse(to_json(response), None, self.grpc.StatusCode.OK, dict(call.initial_metadata()))

    def call(self, operation, body, metadata=()):
        return self.send(operation, self.message(operation, body), metadata)

    def close(self):
        self.channel.close()
