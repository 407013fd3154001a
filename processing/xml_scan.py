"""XML from strangers, looked at once without building a tree: its root, and what would fill the memory refused."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from xml.parsers import expat

# Resting ECGs have a few thousand elements, less than ten deep.
_MAX_NODES = 250_000  # elements and attributes
_MAX_DEPTH = 64
_PROLOG = re.compile(r"^\s*<\?xml[^>]*\?>")


@dataclass
class XMLElement:
    """An element that was asked for: its attributes and its own text."""

    name: str
    attributes: dict[str, str]
    text: list[str] = field(default_factory=list)


def looks_like_xml(start: bytes) -> bool:
    """Whether the first bytes of a file begin an XML document in UTF-8, UTF-16 or a relative of ASCII."""
    text = start.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").lstrip(b" \t\r\n\0")
    return re.match(rb"<\0?[?!A-Za-z]", text) is not None


def scan_xml(content: bytes, wanted: Collection[str] = ()) -> tuple[str, list[XMLElement]]:
    """Return the name of the root element, without its namespace, and every element whose name in lower case is
    in `wanted`.

    Raises:
        ValueError: not well-formed XML; or with declarations that expand (entities, default attributes), too many
            elements and attributes, or too deep a nesting.
    """
    try:
        return _scan(content, wanted)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that Python does not know
        # Files that lie about their encoding are common (UTF-8 that calls itself UTF-16): as text, without the prolog.
        try:
            text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        try:
            return _scan(_PROLOG.sub("", text), wanted)
        except expat.ExpatError:
            raise ValueError(f"XML that is not well-formed ({error})") from error


def _scan(document: bytes | str, wanted: Collection[str]) -> tuple[str, list[XMLElement]]:
    nodes, path, found, root = 0, [], [], []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal nodes
        nodes += 1 + len(attributes)
        if nodes > _MAX_NODES:
            raise ValueError(f"XML of more than {_MAX_NODES} elements and attributes")
        if len(path) == _MAX_DEPTH:
            raise ValueError(f"XML of more than {_MAX_DEPTH} levels")
        root[:] = root or [name.rpartition(":")[2]]
        element = XMLElement(name, attributes) if name.lower() in wanted else None
        path.append(element)
        if element is not None:
            found.append(element)

    def text(characters: str) -> None:
        if path[-1] is not None:
            path[-1].text.append(characters)

    def refuse(*declaration: object) -> None:
        raise ValueError("XML that declares entities or default attributes")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: path.pop()
    if wanted:
        parser.CharacterDataHandler = text
    parser.EntityDeclHandler = parser.AttlistDeclHandler = refuse
    parser.Parse(document, True)
    return root[0], found
