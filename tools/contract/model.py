"""The contract as plain objects: messages, fields, services, methods, out of protoc's descriptors."""
import re

from google.protobuf import descriptor_pb2, descriptor_pool

FD = descriptor_pb2.FieldDescriptorProto
KINDS = {
    FD.TYPE_BOOL: "BOOL", FD.TYPE_INT32: "INT", FD.TYPE_INT64: "INT", FD.TYPE_UINT32: "UINT",
    FD.TYPE_UINT64: "UINT", FD.TYPE_DOUBLE: "DOUBLE", FD.TYPE_STRING: "STRING", FD.TYPE_BYTES: "BYTES",
    FD.TYPE_MESSAGE: "MESSAGE",
}
STYLES = ["OBJECT", "PROPERTY", "VALUE", "LIST", "NOTHING", "MAP", "SLOT"]
VERBS = ["get", "post", "put", "delete"]
OPTIONS = "atoll/api/v1/options.proto"


class ContractError(Exception):
    """An annotation that cannot be right; the text names the proto's field or method."""


def extension(name):
    return descriptor_pool.Default().FindExtensionByName("atoll.api.v1." + name)


def option(options, name):
    """The value of one of our options, or None when it was not written."""
    known = extension(name)
    found = [value for field, value in options.ListFields() if field.full_name == known.full_name]
    return found[0] if found else None


def camel_to_lower(name):
    """As protobuf-c makes C names: an underscore before each capital that follows a small letter."""
    out, was_upper = "", True
    for char in name:
        if char.isupper() and not was_upper:
            out += "_"
        out += char.lower()
        was_upper = char.isupper()
    return out


def c_lower(full_name):
    return "__".join(camel_to_lower(part) for part in full_name.split("."))


def c_type(full_name):
    return "__".join(part[:1].upper() + part[1:] if i == len(full_name.split(".")) - 1 else
                     "".join(w[:1].upper() + w[1:] for w in part.split("_"))
                     for i, part in enumerate(full_name.split(".")))


def symbol(prefix, full_name):
    return prefix + re.sub(r"^atoll\.", "", full_name).replace(".", "_")


class Field:
    def __init__(self, message, proto, index):
        self.message = message
        self.proto = proto
        self.index = index  # position by number, as in protobuf-c's descriptor
        self.o = option(proto.options, "field")
        self.name = self.o.name if self.o is not None and self.o.name else proto.name
        if proto.type not in KINDS:
            raise ContractError(f"{message.full_name}.{proto.name}: this type has no outside form")
        self.kind = KINDS[proto.type]
        self.repeated = proto.label == FD.LABEL_REPEATED
        self.required = proto.label == FD.LABEL_REQUIRED or self.given("required")
        self.sub = None
        self.in_path = False

    def given(self, name):
        return self.o is not None and self.o.HasField(name) and bool(getattr(self.o, name))

    def text(self, name):
        return getattr(self.o, name) if self.o is not None and self.o.HasField(name) else None

    def list(self, name):
        return list(getattr(self.o, name)) if self.o is not None else []

    def is_property(self):
        return self.sub is not None and self.sub.style == "PROPERTY"


class Message:
    def __init__(self, package, proto, file):
        self.full_name = package + "." + proto.name
        self.file = file
        text = option(proto.options, "text")
        self.style = STYLES[text.style] if text is not None else "OBJECT"
        ranks = {number: i for i, number in enumerate(sorted(f.number for f in proto.field))}
        self.fields = [Field(self, f, ranks[f.number]) for f in proto.field]
        self.symbol = symbol("atl_msg_", self.full_name)

    def flat(self):
        """Fields with those of inlined messages in place."""
        for field in self.fields:
            if field.given("inline"):
                yield from field.sub.flat()
            else:
                yield field

    def field(self, name):
        return next((f for f in self.flat() if f.name == name), None)


class Method:
    def __init__(self, service, proto, index, messages):
        self.service = service
        self.name = proto.name
        self.index = index
        self.full_name = service.full_name + "." + proto.name
        self.symbol = symbol("atl_rpc_", service.full_name) + "_" + proto.name
        self.input = messages[proto.input_type.lstrip(".")]
        self.output = messages[proto.output_type.lstrip(".")]
        self.rest = option(proto.options, "rest")
        self.callers = list(option(proto.options, "caller") or [])
        self.verb = self.path = None
        self.bus_idempotent = bool(option(proto.options, "bus_idempotent"))
        if self.rest is not None:
            given = [v for v in VERBS if self.rest.HasField(v)]
            if len(given) > 1:
                raise ContractError(f"{self.full_name}: a method has one of get, post, put, delete at most")
            if given:
                self.verb, self.path = given[0], getattr(self.rest, given[0])
                self.check_path()
            if not self.rest.HasField("perm") and (self.path is not None or not self.callers):
                raise ContractError(f"{self.full_name}: no perm says who may call")
        elif not self.callers:
            raise ContractError(f"{self.full_name}: neither rest nor caller: nobody may call it")

    def path_parameters(self):
        return re.findall(r"\{([^}]*)\}", self.path or "")

    def check_path(self):
        for name in self.path_parameters():
            field = self.input.field(name)
            if field is None or field.message is not self.input:
                raise ContractError(f"{self.full_name}: the path's {{{name}}} is no field of {self.input.full_name}")
            field.in_path = True


class Service:
    def __init__(self, package, proto, file, messages):
        self.full_name = package + "." + proto.name
        self.file = file
        self.server = option(proto.options, "server")
        if not self.server:
            raise ContractError(f"{self.full_name}: no server answers it")
        self.symbol = symbol("atl_svc_", self.full_name)
        self.methods = [Method(self, m, i, messages) for i, m in enumerate(proto.method)]


class Contract:
    def __init__(self, request):
        self.files = [f for f in request.file_to_generate if f != OPTIONS]
        self.messages, self.services, self.by_file = {}, [], {}
        wanted = [p for p in request.proto_file if p.name.startswith("atoll/") and p.name != OPTIONS]
        for proto in wanted:
            self.by_file[proto.name] = ([], [])
            for message in self.all_messages(proto):
                made = Message(message[0], message[1], proto.name)
                self.messages[made.full_name] = made
                self.by_file[proto.name][0].append(made)
        for message in self.messages.values():
            for field in message.fields:
                if field.kind == "MESSAGE":
                    field.sub = self.messages[field.proto.type_name.lstrip(".")]
        for proto in wanted:
            for service in proto.service:
                made = Service(proto.package, service, proto.name, self.messages)
                self.services.append(made)
                self.by_file[proto.name][1].append(made)
        self.check()

    @staticmethod
    def all_messages(proto):
        def walk(package, message):
            if any(f.type == FD.TYPE_ENUM for f in message.field):
                return  # bus-only messages with real enums need no tables
            yield package, message
            for nested in message.nested_type:
                yield from walk(package + "." + message.name, nested)
        for message in proto.message_type:
            yield from walk(proto.package, message)

    def check(self):
        routes = {}
        for service in self.services:
            for method in service.methods:
                if method.path is None:
                    continue
                key = method.verb + " " + re.sub(r"\{[^}]*\}", "{}", method.path)
                if key in routes:
                    raise ContractError(f"{method.full_name}: {key} is already {routes[key]}")
                routes[key] = method.full_name
        for message in self.messages.values():
            names = [(f.name, f.given("numbered")) for f in message.flat()]
            for name in set(names):
                if names.count(name) > 1:
                    raise ContractError(f"{message.full_name}: two fields are called {name[0]}")
