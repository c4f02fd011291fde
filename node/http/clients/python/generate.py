"""Makes networkdb_client/types.py from the OpenAPI document of a node.

Usage: generate.py http://127.0.0.1:2000 [--check]; with --check, only says whether the file is as it would be made.
"""

from __future__ import annotations

import json
import keyword
import pathlib
import sys
import textwrap
import urllib.request
from typing import Any, Dict, List

TARGET = pathlib.Path(__file__).parent / "networkdb_client" / "types.py"
SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "object": "Dict[str, Any]"}


def type_of(schema: Dict[str, Any]) -> str:
    """The Python type of a schema within another."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "enum" in schema:
        return "Literal[" + ", ".join(json.dumps(value) for value in schema["enum"]) + "]"
    if "oneOf" in schema:
        return "Union[" + ", ".join(type_of(choice) for choice in schema["oneOf"]) + "]"
    kinds = schema.get("type", "object")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    names = []
    for kind in kinds:
        if kind == "array":
            names.append("List[" + type_of(schema["items"]) + "]")
        elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            names.append("Dict[str, " + type_of(schema["additionalProperties"]) + "]")
        else:
            names.append(SIMPLE[kind])
    return names[0] if len(names) == 1 else "Union[" + ", ".join(names) + "]"


def comment(text: str, indent: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), 110, break_long_words=False)
    return "".join(f"{indent}# {line}\n" for line in lines)


def merged(schema: Dict[str, Any], schemas: Dict[str, Any]) -> Dict[str, Any]:
    """An object with the properties of all its parts."""
    if "$ref" in schema:
        return merged(schemas[type_of(schema)], schemas)
    properties: Dict[str, Any] = {}
    required: List[str] = []
    for part in schema.get("allOf", []):
        whole = merged(part, schemas)
        properties.update(whole["properties"])
        required += whole["required"]
    properties.update(schema.get("properties", {}))
    return {"properties": properties, "required": required + schema.get("required", [])}


def typed_dict(name: str, schema: Dict[str, Any], schemas: Dict[str, Any]) -> str:
    whole = merged(schema, schemas)
    required = set(whole["required"])
    text = ""

    def fields(names: List[str]) -> str:
        lines = ""
        for field in names:
            of = whole["properties"][field]
            lines += comment(of.get("description", ""), "    ") + f"    {field}: {type_of(of)}\n"
        return lines or "    pass\n"

    always = [field for field in whole["properties"] if field in required]
    sometimes = [field for field in whole["properties"] if field not in required]
    base = "TypedDict"
    # A class cannot have a field of such a name.
    keywords = [field for field in sometimes if keyword.iskeyword(field)]
    if keywords:
        sometimes = [field for field in sometimes if field not in keywords]
        items = ", ".join(f'"{field}": "{type_of(whole["properties"][field])}"' for field in keywords)
        text += f'_Rest{name} = TypedDict("_Rest{name}", {{{items}}}, total=False)\n\n\n'
    if sometimes or keywords:
        base = f"_{name}"
        text += f"class {base}(TypedDict):\n{fields(always)}\n\n"
        bases = f"{base}, _Rest{name}" if keywords else base
        text += f"class {name}({bases}, total=False):\n{described(schema)}{fields(sometimes)}\n\n"
    else:
        text += f"class {name}(TypedDict):\n{described(schema)}{fields(always)}\n\n"
    return text


def described(schema: Dict[str, Any]) -> str:
    text = schema.get("description", "").strip()
    return f'    """{textwrap.fill(" ".join(text.split()), 110, subsequent_indent="    ")}"""\n\n' if text else ""


def made(document: Dict[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    text = '"""The JSON of /v1, made by generate.py from the OpenAPI document. Do not edit."""\n\n'
    text += "from __future__ import annotations\n\nfrom typing import Any, Dict, List, Literal, TypedDict, Union\n\n\n"
    aliases = ""
    for name, schema in sorted(schemas.items()):
        if "oneOf" in schema:
            choices = []
            for choice in schema["oneOf"]:
                whole = merged(choice, schemas)
                tags = [of["enum"][0] for of in whole["properties"].values() if "enum" in of]
                # A choice is recognised by a property with one value, or by its only property.
                words = tags[0] if tags else next(iter(whole["properties"]))
                choices.append(words.title().replace("_", "") + ("Event" if tags else name))
                text += typed_dict(choices[-1], {**choice, "description": choice.get("description", "")}, schemas)
            aliases += comment(schema.get("description", ""), "") + f"{name} = Union[{', '.join(choices)}]\n"
        elif "enum" in schema or schema.get("type") != "object" and "allOf" not in schema:
            aliases += comment(schema.get("description", ""), "") + f"{name} = {type_of(schema)}\n"
        else:
            text += typed_dict(name, schema, schemas)
    return text + aliases


def main() -> int:
    with urllib.request.urlopen(sys.argv[1].rstrip("/") + "/v1/openapi.json", timeout=30) as response:
        text = made(json.load(response))
    if "--check" not in sys.argv[2:]:
        TARGET.write_text(text)
        return 0
    if TARGET.read_text() == text:
        return 0
    print(f"{TARGET} is not what {sys.argv[1]} describes: run generate.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
