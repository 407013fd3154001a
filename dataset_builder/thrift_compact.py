"""Thrift's compact protocol, as far as a Parquet footer and page header need it.

A struct is a dict {field id: (type, value)}; a list is (type of its elements, [values]). Whatever a footer holds is
read and written back as it was, so fields that are not known here survive.

Source: Apache Thrift, thrift-compact-protocol.md.
"""

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


def varint(number: int) -> bytes:
    """A non-negative integer, seven bits to a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def write_struct(fields: dict[int, tuple[int, object]]) -> bytes:
    """Serialise a struct: its fields by ascending id, and the byte that ends it."""
    out, last = bytearray(), 0
    for field, (kind, value) in sorted(fields.items()):
        if field - last <= 15:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            out += _zigzag(field)
        last = field
        out += _write(kind, value)
    out.append(0)
    return bytes(out)


def read_struct(data: bytes, position: int = 0) -> tuple[dict[int, tuple[int, object]], int]:
    """Parse a struct; returns it and the position behind it."""
    fields: dict[int, tuple[int, object]] = {}
    field = 0
    while head := data[position]:
        kind, position = head & 15, position + 1
        if head >> 4:
            field += head >> 4
        else:
            field, position = _read_zigzag(data, position)
        value, position = _read(kind, data, position)
        fields[field] = (kind, value)
    return fields, position + 1


def _zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _write(kind: int, value: object) -> bytes:
    if kind in (TRUE, FALSE):  # as a field, its type is its value
        return b""
    if kind == BYTE:
        return value.to_bytes(1, "little", signed=True)
    if kind in (I16, I32, I64):
        return _zigzag(value)
    if kind == DOUBLE:
        return value
    if kind == BINARY:
        return varint(len(value)) + value
    if kind in (LIST, SET):
        element, values = value
        head = bytes([len(values) << 4 | element]) if len(values) < 15 else bytes([240 | element]) + varint(len(values))
        if element in (TRUE, FALSE):
            return head + bytes(TRUE if item else FALSE for item in values)
        return head + b"".join(_write(element, item) for item in values)
    if kind == STRUCT:
        return write_struct(value)
    raise ValueError(f"Thrift type {kind}; Parquet metadata holds none of it")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position


def _read_zigzag(data: bytes, position: int) -> tuple[int, int]:
    number, position = _read_varint(data, position)
    return (number >> 1) ^ -(number & 1), position


def _read(kind: int, data: bytes, position: int) -> tuple[object, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, position
    if kind == BYTE:
        return int.from_bytes(data[position : position + 1], "little", signed=True), position + 1
    if kind in (I16, I32, I64):
        return _read_zigzag(data, position)
    if kind == DOUBLE:
        return data[position : position + 8], position + 8
    if kind == BINARY:
        length, position = _read_varint(data, position)
        return data[position : position + length], position + length
    if kind in (LIST, SET):
        head, position = data[position], position + 1
        length, element = head >> 4, head & 15
        if length == 15:
            length, position = _read_varint(data, position)
        values = []
        for _ in range(length):
            if element in (TRUE, FALSE):
                value, position = data[position] == TRUE, position + 1
            else:
                value, position = _read(element, data, position)
            values.append(value)
        return (element, values), position
    if kind == STRUCT:
        return read_struct(data, position)
    raise ValueError(f"Thrift type {kind}; Parquet metadata holds none of it")
