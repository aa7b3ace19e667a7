"""Writes the tables of common/pure/contract.h as C."""
import model

RPC_FLAGS = [("no_token", "ATL_R_NO_TOKEN"), ("upload", "ATL_R_UPLOAD"), ("task", "ATL_R_TASK")]
FIELD_FLAGS = [("numbered", "ATL_F_NUMBERED"), ("inline", "ATL_F_INLINE"), ("default_key", "ATL_F_DEFAULT_KEY"),
               ("secret", "ATL_F_SECRET"), ("unbuilt", "ATL_F_UNBUILT"), ("as_string", "ATL_F_AS_STRING"),
               ("raw_json", "ATL_F_RAW_JSON"), ("only_in", "ATL_F_ONLY_IN"), ("as_json_bool", "ATL_F_JSON_BOOL")]
DEFAULT_DEADLINE_MS = 30000


def quoted(text):
    if text is None:
        return "NULL"
    out = ""
    for char in text:
        code = ord(char)
        if char in '"\\':
            out += "\\" + char
        elif char == "?":
            out += "\\?"
        elif 32 <= code < 127:
            out += char
        else:
            out += "".join(f"\\{byte:03o}" for byte in char.encode())
    return '"' + out + '"'


class Writer:
    """One C file; lists of texts that repeat are written once."""

    def __init__(self):
        self.lines, self.lists, self.count = [], {}, 0

    def text_list(self, texts):
        if not texts:
            return "NULL"
        key = tuple(texts)
        if key not in self.lists:
            name = f"list_{len(self.lists)}"
            self.lists[key] = name
            self.lines.append(f"static const char *const {name}[] = {{{', '.join(map(quoted, texts))}, NULL}};")
        return self.lists[key]

    def perm(self, perm):
        self.count += 1
        name = f"perm_{self.count}"
        members = []
        for field, c_field in (("any", "any"), ("all", "all"), ("when", "when")):
            values = list(getattr(perm, field))
            if values:
                members.append(f".{c_field} = {self.text_list(values)}")
        for field, c_field in (("or", "or_"), ("and", "and_")):
            parts = [self.perm(part) for part in getattr(perm, field)]
            if parts:
                array = f"{name}_{c_field}"
                self.lines.append(f"static const struct atl_perm *const {array}[] = "
                                  f"{{{', '.join('&' + p for p in parts)}, NULL}};")
                members.append(f".{c_field} = {array}")
        if perm.HasField("path"):
            members.append(f".path = {quoted(perm.path)}")
        if perm.HasField("self"):
            members.append(f".self = {quoted(getattr(perm, 'self'))}")
        for flag in ("world", "user", "code"):
            if getattr(perm, flag):
                members.append(f".{flag} = true")
        self.lines.append(f"static const struct atl_perm {name} = {{{', '.join(members)}}};")
        return name


def field_flags(field):
    flags = [c for name, c in FIELD_FLAGS if field.given(name)]
    if field.required:
        flags.append("ATL_F_REQUIRED")
    if field.repeated:
        flags.append("ATL_F_REPEATED")
    if field.in_path:
        flags.append("ATL_F_PATH")
    for name in ("min", "max"):
        if field.o is not None and field.o.HasField(name):
            flags.append("ATL_F_HAS_" + name.upper())
    return " | ".join(flags) or "0"


def number(value):
    return str(int(value)) + ".0" if value == int(value) else repr(value)


def field_text(writer, field):
    members = [f".name = {quoted(field.name)}", f".index = {field.index}", f".kind = ATL_KIND_{field.kind}",
               f".flags = {field_flags(field)}"]
    for option, member in (("summary", "summary"), ("default", "fallback"), ("pattern", "pattern"),
                           ("format", "format"), ("requires", "needs"), ("key_alias", "key_alias")):
        if field.text(option) is not None:
            members.append(f".{member} = {quoted(field.text(option))}")
    for option, member in (("value", "values"), ("alias", "aliases")):
        if field.list(option):
            members.append(f".{member} = {writer.text_list(field.list(option))}")
    for option in ("min", "max"):
        if field.o is not None and field.o.HasField(option):
            members.append(f".{option} = {number(getattr(field.o, option))}")
    for option in ("min_length", "max_length", "max_index"):
        if field.text(option) is not None:
            members.append(f".{option} = {field.text(option)}")
    if field.sub is not None:
        members.append(f".sub = &{field.sub.symbol}")
    if field.text("separator"):
        members.append(f".separator = '{field.text('separator')}'")
    return "    {" + ", ".join(members) + "},"


def message_text(writer, message):
    name = model.symbol("fields_", message.full_name)
    rows = [field_text(writer, field) for field in message.fields]
    if rows:
        writer.lines += [f"static const struct atl_field {name}[] = {{"] + rows + ["};"]
    writer.lines += [
        f"const struct atl_message {message.symbol} = {{.name = {quoted(message.full_name)},",
        f"    .descriptor = &{model.c_lower(message.full_name)}__descriptor,"
        f" .fields = {name if rows else 'NULL'}, .count = {len(rows)}, .style = ATL_STYLE_{message.style}}};"]


def rpc_text(writer, method):
    members = [f".name = {quoted(method.full_name)}", f".service = &{method.service.symbol}",
               f".input = &{method.input.symbol}", f".output = &{method.output.symbol}",
               f".index = {method.index}"]
    flags, deadline = [], DEFAULT_DEADLINE_MS
    rest = method.rest
    if rest is not None:
        if method.path is not None:
            members += [f".path = {quoted(method.path)}", f".verb = ATL_{method.verb.upper()}"]
        if rest.HasField("perm"):
            members.append(f".perm = &{writer.perm(rest.perm)}")
        if rest.summary:
            members.append(f".summary = {quoted(rest.summary)}")
        if rest.cli:
            members.append(f".cli = {quoted(rest.cli)}")
        flags = [c for name, c in RPC_FLAGS if getattr(rest, name)]
        deadline = rest.deadline_ms or deadline
    if method.path is None:
        members.append(".verb = ATL_NO_VERB")
    if method.bus_idempotent or (rest is not None and rest.idempotent):
        flags.append("ATL_R_IDEMPOTENT")
    if method.callers:
        members.append(f".callers = {writer.text_list(method.callers)}")
    members += [f".flags = {' | '.join(flags) or '0'}", f".deadline_ms = {deadline}"]
    return "    {" + ", ".join(members) + "},"


def service_text(writer, service):
    rows = [rpc_text(writer, method) for method in service.methods]
    array = model.symbol("rpcs_", service.full_name)
    writer.lines += [f"static const struct atl_rpc {array}[] = {{"] + rows + ["};"]
    writer.lines += [
        f"const struct atl_service {service.symbol} = {{.name = {quoted(service.full_name)},"
        f" .server = {quoted(service.server)},",
        f"    .descriptor = &{model.c_lower(service.full_name)}__descriptor, .rpcs = {array},"
        f" .count = {len(rows)}}};"]
    for method in service.methods:
        writer.lines.append(f"const struct atl_rpc *const {method.symbol}_ptr = &{array}[{method.index}];")


def header(stem, messages, services):
    guard = "ATL_GEN_" + stem.upper().replace("/", "_").replace(".", "_")
    lines = ["/* Generated by tools/protoc-gen-atoll. */", f"#ifndef {guard}", f"#define {guard}", "",
             f'#include "{stem}.pb-c.h"', '#include "pure/contract.h"', ""]
    lines += [f"extern const struct atl_message {m.symbol};" for m in messages]
    for service in services:
        lines.append(f"extern const struct atl_service {service.symbol};")
        for method in service.methods:
            lines.append(f"extern const struct atl_rpc *const {method.symbol}_ptr;")
            lines.append(f"#define {method.symbol} (*{method.symbol}_ptr)")
    return "\n".join(lines + ["", "#endif", ""])


def source(stem, contract, messages, services):
    writer = Writer()
    for message in messages:
        message_text(writer, message)
    for service in services:
        service_text(writer, service)
    needed = {m.file for m in messages}
    for message in messages:
        needed |= {f.sub.file for f in message.fields if f.sub is not None}
    for service in services:
        for method in service.methods:
            needed |= {method.input.file, method.output.file}
    includes = sorted(f[:-len(".proto")] for f in needed | {stem + ".proto"})
    lines = ["/* Generated by tools/protoc-gen-atoll. */"] + [f'#include "{i}.atl.h"' for i in includes]
    return "\n".join(lines + writer.lines) + "\n"


def files(contract):
    for name in contract.files:
        stem = name[:-len(".proto")]
        messages, services = contract.by_file[name]
        yield stem + ".atl.h", header(stem, messages, services)
        yield stem + ".atl.c", source(stem, contract, messages, services)
    services = [s for s in contract.services]
    lines = ["/* Generated by tools/protoc-gen-atoll. */", '#include "pure/contract.h"', ""]
    lines += [f"extern const struct atl_service {s.symbol};" for s in services]
    lines += ["const struct atl_service *const atl_contract[] = {"]
    lines += [f"    &{s.symbol}," for s in services] + ["    NULL,", "};", ""]
    yield "contract.atl.c", "\n".join(lines)
