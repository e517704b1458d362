#!/usr/bin/env python3
"""Writes server/dynamodb/api_model.inc: the request shapes of the DynamoDB API as C++ tables.

Reads the public API model (Debian: python3-botocore) and tools/api_overlay.json, which adds what that
model lacks. Only facts go in: names, types and constraints of what requests may hold, no texts.

    tools/generate_api_model.py            writes the file
    tools/generate_api_model.py --check    exits 1 when the file is not what would be written
"""

import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "server/dynamodb/api_model.inc"
OVERLAY = ROOT / "tools/api_overlay.json"
MODEL = pathlib.Path(
    "/usr/lib/python3/dist-packages/botocore/data/dynamodb/2012-08-10/service-2.json")

KINDS = {
    "structure": "kStructure", "list": "kList", "map": "kMap", "string": "kString",
    "integer": "kInteger", "long": "kLong", "double": "kDouble", "float": "kDouble",
    "boolean": "kBoolean", "blob": "kBlob", "timestamp": "kTimestamp",
}


def load(model_path):
    """The model with the overlay applied: (operations {name: input shape}, shapes, overlay)."""
    model = json.loads(model_path.read_text())
    overlay = json.loads(OVERLAY.read_text())
    shapes = model["shapes"]
    shapes.update(overlay["shapes"])
    for structure, members in overlay["members"].items():
        for name, shape in members.items():
            shapes[structure]["members"].setdefault(name, {"shape": shape})
    for structure, required in overlay["required"].items():
        shapes[structure]["required"] = required
    for name, constraints in overlay["constraints"].items():
        if name == "comment":
            continue
        for key, value in constraints.items():
            if value is None:
                shapes[name].pop(key, None)
            else:
                shapes[name][key] = value
    for name, values in overlay["enum_order"].items():
        if sorted(values) != sorted(shapes[name]["enum"]):
            sys.exit(f"enum_order of {name} has other values than the model")
        shapes[name]["enum"] = values
    operations = {name: operation.get("input", {}).get("shape")
                  for name, operation in model["operations"].items()}
    operations.update(overlay["operations"])
    return operations, shapes, overlay


def reachable(operations, shapes):
    """Names of the shapes that requests can hold, each once, sorted."""
    found = set()
    pending = [shape for shape in operations.values() if shape]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        shape = shapes[name]
        if shape["type"] == "structure":
            pending += [member["shape"] for member in shape["members"].values()]
        elif shape["type"] == "list":
            pending.append(shape["member"]["shape"])
        elif shape["type"] == "map":
            pending += [shape["key"]["shape"], shape["value"]["shape"]]
    return sorted(found)


def checking_order(name, shape, overlay):
    members = list(shape["members"])
    first = [m for m in overlay["order"].get(name, []) if m in members]
    return first + [m for m in members if m not in first]


def constrained_shapes(names, shapes):
    """Shapes that have a constraint, or hold one: the rest needs no constraint walk."""
    def own(shape):
        return any(key in shape for key in ("min", "max", "pattern", "enum")) or bool(
            shape.get("required"))

    result = {name for name in names if own(shapes[name])}
    while True:
        more = set()
        for name in names:
            shape = shapes[name]
            if name in result:
                continue
            inner = []
            if shape["type"] == "structure":
                inner = [member["shape"] for member in shape["members"].values()]
            elif shape["type"] == "list":
                inner = [shape["member"]["shape"]]
            elif shape["type"] == "map":
                inner = [shape["key"]["shape"], shape["value"]["shape"]]
            if name != "AttributeValue" and any(i in result for i in inner):
                more.add(name)
        if not more:
            return result
        result |= more


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def generate(model_path):
    operations, shapes, overlay = load(model_path)
    names = reachable(operations, shapes)
    index = {name: i for i, name in enumerate(names)}
    constrained = constrained_shapes(names, shapes)
    control = set(overlay["name_rules"]["control"])

    members, enums, rows = [], [], []
    for name in names:
        shape = shapes[name]
        kind = KINDS[shape["type"]]
        first_member, member_count = len(members), 0
        if shape["type"] == "structure":
            model_order = list(shape["members"])
            for member in checking_order(name, shape, overlay):
                target = shape["members"][member]["shape"]
                rule = "kNone"
                if target in ("TableName", "TableArn") and member == "TableName":
                    target = "TableName"
                    rule = "kControl" if name in control else "kData"
                wire = member[0].lower() + member[1:]
                required = "true" if member in shape.get("required", []) else "false"
                members.append(
                    f"{{{quote(member)}, {quote(wire)}, {index[target]}, {required}, "
                    f"NameRule::{rule}, {model_order.index(member)}}},")
                member_count += 1
        first_enum = len(enums)
        enums += [f"{quote(value)}," for value in shape.get("enum", [])]
        element = key = 0
        if shape["type"] == "list":
            element = index[shape["member"]["shape"]]
        elif shape["type"] == "map":
            element = index[shape["value"]["shape"]]
            key = index[shape["key"]["shape"]]
        bound = lambda which: str(shape[which]) if which in shape else "kNoBound"
        rows.append(
            f"{{{quote(name)}, ShapeKind::{kind}, {'true' if name in constrained else 'false'}, "
            f"{first_member}, {member_count}, {element}, {key}, {bound('min')}, {bound('max')}, "
            f"{quote(shape.get('pattern', ''))}, {first_enum}, {len(shape.get('enum', []))}, "
            f"{quote(', '.join(shape.get('enum', [])))}}},")

    lines = [
        "// Generated by tools/generate_api_model.py; do not edit. Checked by api_model_test.",
        "// clang-format off",
        "",
        "constexpr Member kMembers[] = {", *members, "};", "",
        "constexpr std::string_view kEnumValues[] = {", *enums, "};", "",
        "constexpr Shape kShapes[] = {",
        *[f"/* {i} */ {row}" for i, row in enumerate(rows)], "};", "",
        "constexpr OperationModel kOperations[] = {",
    ]
    # An operation without an input takes an empty structure; DescribeLimits has one.
    for name in sorted(operations):
        lines.append(f"{{{quote(name)}, {index[operations[name] or 'DescribeLimitsInput']}}},")
    lines += ["};", "", f"constexpr ShapeIndex kAttributeValueShape = {index['AttributeValue']};",
              "", "// clang-format on"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = generate(arguments.model)
    if arguments.check:
        if OUTPUT.read_text() != text:
            sys.exit(f"{OUTPUT} is out of date: run tools/generate_api_model.py")
        return
    OUTPUT.write_text(text)


if __name__ == "__main__":
    main()
