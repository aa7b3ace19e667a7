"""Writes the contract as an OpenAPI 3.1 document, and as the plain list that documents and completion use."""
import re

JSON_TYPES = {"BOOL": "boolean", "INT": "integer", "UINT": "integer", "DOUBLE": "number", "STRING": "string",
              "BYTES": "string", "MESSAGE": "object"}


def scalar_schema(field, answer):
    schema = {"type": JSON_TYPES[field.kind]}
    if field.kind == "BOOL" and answer and not field.given("as_json_bool"):
        schema = {"type": "integer", "enum": [0, 1]}
    elif field.kind == "BOOL":
        schema = {"type": "boolean"}
    if answer and field.given("as_string"):
        schema = {"type": "string"}
    if answer and field.given("raw_json"):
        schema = {}
    if field.kind in ("INT", "UINT", "DOUBLE"):
        for option, key in (("min", "minimum"), ("max", "maximum")):
            if field.o is not None and field.o.HasField(option):
                value = getattr(field.o, option)
                schema[key] = int(value) if value == int(value) else value
    for option, key in (("min_length", "minLength"), ("max_length", "maxLength"), ("pattern", "pattern"),
                        ("format", "format")):
        if field.text(option) is not None:
            schema[key] = field.text(option)
    if field.list("value"):
        schema["enum"] = field.list("value")
    if field.text("default") is not None:
        schema["default"] = typed_default(field)
    return schema


def typed_default(field):
    text = field.text("default")
    if field.kind == "BOOL":
        return text not in ("0", "no", "off", "false")
    if field.kind in ("INT", "UINT") and re.fullmatch(r"-?\d+", text):
        return int(text)
    return text


def property_schema(message):
    keys = [f"[{f.name}=]" + "VALUE" if f.given("default_key") else f"{f.name}=VALUE" for f in message.fields]
    return {"type": "string", "description": "Property string: " + ",".join(keys)}


def field_schema(field, answer):
    if field.kind != "MESSAGE":
        schema = scalar_schema(field, answer)
    elif field.is_property():
        schema = property_schema(field.sub)
    else:
        schema = message_schema(field.sub, answer)
    if field.text("summary"):
        schema["description"] = field.text("summary")
    if field.repeated and not field.given("numbered"):
        schema = {"type": "string"} if field.text("separator") else {"type": "array", "items": schema}
    if field.given("unbuilt"):
        schema["x-atoll-unbuilt"] = True
    return schema


def slot_schema(field, answer):
    value = next(f for f in field.sub.fields if f.name == "value")
    schema = field_schema(value, answer)
    if field.text("summary"):
        schema["description"] = field.text("summary")
    if field.given("unbuilt"):
        schema["x-atoll-unbuilt"] = True
    return schema


def object_schema(fields, answer):
    schema = {"type": "object", "properties": {}}
    patterns, required = {}, []
    for field in fields:
        if answer and (field.given("only_in") or field.given("secret")):
            continue
        if field.given("numbered"):
            patterns[f"^{re.escape(field.name)}(0|[1-9][0-9]*)$"] = slot_schema(field, answer)
            continue
        schema["properties"][field.name] = field_schema(field, answer)
        if field.required and not answer:
            required.append(field.name)
    if patterns:
        schema["patternProperties"] = patterns
    if required:
        schema["required"] = required
    return schema


def message_schema(message, answer):
    fields = list(message.flat())
    if message.style == "VALUE":
        return field_schema(fields[0], answer)
    if message.style == "LIST":
        return field_schema(next(f for f in fields if f.repeated), answer)
    if message.style == "NOTHING":
        return {"type": "null"}
    if message.style == "MAP":
        value = next(f for f in fields[0].sub.fields if f.name == "value")
        return {"type": "object", "additionalProperties": field_schema(value, answer)}
    return object_schema(fields, answer)


def perm_text(perm):
    """The permission expression in words, as documents print it."""
    parts = []
    if perm.world:
        parts.append("anyone")
    if perm.user:
        parts.append("any authenticated user; the answer is filtered")
    if getattr(perm, "self"):
        parts.append(f"the user named by {getattr(perm, 'self')} himself")
    if perm.any:
        parts.append(f"{' or '.join(perm.any)} on {perm.path}")
    if perm.all:
        parts.append(f"{' and '.join(perm.all)} on {perm.path}")
    if getattr(perm, "or"):
        parts.append("(" + " or ".join(perm_text(p) for p in getattr(perm, "or")) + ")")
    parts += [perm_text(p) for p in getattr(perm, "and")]
    text = "; ".join(parts)
    if perm.when:
        text += f" when {' or '.join(perm.when)} is given"
    return text


def operation(method):
    path_names = method.path_parameters()
    others = [f for f in method.input.flat() if not f.in_path]
    out = {"operationId": method.full_name.replace(".", "_"), "summary": method.rest.summary,
           "tags": [method.service.full_name.split(".")[1]],
           "description": "Permission: " + perm_text(method.rest.perm) + ".",
           "parameters": [{"name": n, "in": "path", "required": True,
                           "schema": field_schema(method.input.field(n), False)} for n in path_names]}
    if method.verb in ("get", "delete"):
        out["parameters"] += [{"name": f.name, "in": "query", "required": f.required,
                               "schema": field_schema(f, False)} for f in others]
    elif others:
        schema = object_schema(others, False)
        media = ["multipart/form-data"] if method.rest.upload else ["application/x-www-form-urlencoded",
                                                                    "application/json"]
        out["requestBody"] = {"content": {m: {"schema": schema} for m in media}}
    answer = {"type": "object", "properties": {"data": message_schema(method.output, True)}}
    out["responses"] = {"200": {"description": "Done.", "content": {"application/json": {"schema": answer}}},
                        "default": {"description": "An error; message says what and what to do."}}
    return out


def document(contract):
    paths = {}
    for service in contract.services:
        for method in service.methods:
            if method.path is not None and not service.full_name.startswith("atoll.test."):
                paths.setdefault(method.path, {})[method.verb] = operation(method)
    return {"openapi": "3.1.0", "info": {"title": "Atoll", "version": "1"},
            "servers": [{"url": "/api2/json"}], "paths": paths}


def commands(contract):
    """Every REST method with its parameters: for documents and for looking things up by eye."""
    return [{"method": m.full_name, "verb": m.verb, "path": m.path, "summary": m.rest.summary,
             "server": s.server, "permission": perm_text(m.rest.perm),
             "parameters": [{"name": f.name + ("[n]" if f.given("numbered") else ""), "summary": f.text("summary"),
                             "required": f.required, "unbuilt": f.given("unbuilt")} for f in m.input.flat()]}
            for s in contract.services for m in s.methods if m.path is not None]
