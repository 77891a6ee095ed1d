"""Files of TFRecords that hold tf.train.Example messages of strings, without TensorFlow.

The workers of a build write these files; importing TensorFlow would cost each of them six seconds
and half a gigabyte. Formats: the TFRecord framing (length, masked CRC-32C of the length, data,
masked CRC-32C of the data) and the protocol buffer `tf.train.Example`.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping

import google_crc32c
from etils import epath

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_ENTRY, _VALUE = 1, 2  # field numbers of a protobuf map


class DamagedRecordsError(ValueError):
    """A file of records that is cut short or altered."""


def encode_example(fields: Mapping[str, str]) -> bytes:
    """Returns a serialized tf.train.Example with one string for each field."""
    return _field(_ENTRY, b"".join([_entry(name, fields[name]) for name in sorted(fields)]))


def decode_example(example: bytes) -> dict[str, str]:
    """Returns the fields of a serialized tf.train.Example that holds one string for each."""
    fields = {}
    for entry in _fields(dict(_fields(example)).get(1, b"")):
        parts = dict(_fields(entry[1]))
        value = parts[_VALUE]
        for _ in range(2):  # Feature.bytes_list, BytesList.value
            value = dict(_fields(value)).get(1, b"")
        fields[parts[_ENTRY].decode()] = value.decode()
    return fields


def write_records(path: str | os.PathLike[str], records: Iterable[bytes]) -> None:
    """Writes `records` to a new file, framed as TFRecords."""
    with epath.Path(path).open("wb") as stream:
        for record in records:
            stream.write(framed(record))


def framed(record: bytes) -> bytes:
    """Returns `record` as it stands in a file: length, checksum, record, checksum."""
    length = _LENGTH.pack(len(record))
    return b"".join([length, _checksum(length), record, _checksum(record)])


def unframed(frame: bytes) -> bytes:
    """Returns the record in what `framed` made of it, unchecked."""
    return frame[_LENGTH.size + _CHECKSUM.size : -_CHECKSUM.size]


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yields the records of a file.

    Raises:
        DamagedRecordsError: The file is cut short or a checksum is wrong; the message names it.
    """
    with epath.Path(path).open("rb") as stream:
        while head := stream.read(_LENGTH.size + _CHECKSUM.size):
            length = _checked(head, _LENGTH.size, path=path, at=stream.tell())
            size = _LENGTH.unpack(length)[0]
            record = stream.read(size + _CHECKSUM.size)
            yield _checked(record, size, path=path, at=stream.tell())


def _checked(read: bytes, size: int, *, path: str | os.PathLike[str], at: int) -> bytes:
    data, checksum = read[:size], read[size:]
    if len(read) != size + _CHECKSUM.size or checksum != _checksum(data):
        kind = "cut short" if len(read) != size + _CHECKSUM.size else "altered"
        raise DamagedRecordsError(
            f"The record file {path} is {kind} near byte {at:,}. Remove the corpus and build it "
            "again with `codet5p corpus build`."
        )
    return data


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    masked = ((crc >> 15) | (crc << 17)) + _MASK_DELTA
    return _CHECKSUM.pack(masked & 0xFFFFFFFF)


def _entry(name: str, value: str) -> bytes:
    """An entry of the map of features: the name, and a list of one string."""
    data = value.encode()
    listed = _head(1, len(data))
    feature = _head(1, len(listed) + len(data))
    length = len(feature) + len(listed) + len(data)
    named = _field(_ENTRY, name.encode()) + _head(_VALUE, length)
    return b"".join([_head(_ENTRY, len(named) + length), named, feature, listed, data])


def _field(number: int, payload: bytes) -> bytes:
    return _head(number, len(payload)) + payload


def _head(number: int, size: int) -> bytes:
    """What stands before a field of that many bytes."""
    tag = number << 3 | 2
    return bytes((tag, size)) if size < 0x80 else bytes((tag,)) + _varint(size)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message: (number, payload); we write no others."""
    position = 0
    while position < len(message):
        number, position = message[position] >> 3, position + 1
        size, position = _read_varint(message, position)
        yield number, message[position : position + size]
        position += size


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
