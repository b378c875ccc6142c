"""The bundle file: a stored zip of fixed layout, checked byte by byte before anything in it is used.

The writer leaves nothing to choice (member order, alignment, timestamps, attributes), so every byte of the
file that is not member data follows from the members' names, sizes and CRCs. The reader rebuilds those bytes
and compares: a compressed, duplicate, hidden, overlapping or misnamed member, and a single changed bit,
cannot pass.

Every member's data begins at a multiple of 64 bytes, so that weights can be mapped into memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from laudc.engine.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MODEL,
    PLAN,
    PORTABLE,
    WEIGHTS,
    Manifest,
    MemberRecord,
    NewerFormat,
    parse_manifest,
)
from laudc.errors import UserError
from laudc.files import atomic_write

MEMBER_ORDER = (MANIFEST, MODEL, WEIGHTS, PLAN, PORTABLE)
ALIGNMENT = 64

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_ZIP_VERSION = 20
# 1980-01-01, the first date that zip can say: bundles of the same content are the same bytes.
_DOS_TIME, _DOS_DATE = 0, (1 << 5) | 1
_REGULAR_FILE = (0o100644) << 16
_UNIX = 3 << 8
_MAX_SIZE = (1 << 32) - 1
_CHUNK = 4 << 20
# A zip "extra field" of this made-up number fills the gap before aligned data; other readers skip it.
_PADDING_ID = 0x4C44
_PADDING_HEADER = struct.Struct("<2H")

_BUILD_AGAIN = "build it again: laudc build-engine MODEL.onnx --device cpu -o {path}"


@dataclass(frozen=True)
class _Entry:
    """One member as the zip directory describes it; `offset` is that of its local header, in bytes."""

    name: str
    size: int
    crc: int
    offset: int

    @property
    def data_offset(self) -> int:
        return self.offset + _LOCAL.size + len(self.name) + len(self._padding())

    def local_header(self) -> bytes:
        name, padding = self.name.encode(), self._padding()
        lengths = (self.size, self.size, len(name), len(padding))
        fields = (_ZIP_VERSION, 0, 0, _DOS_TIME, _DOS_DATE, self.crc, *lengths)
        return _LOCAL.pack(_LOCAL_MAGIC, *fields) + name + padding

    def _padding(self) -> bytes:
        """The extra field behind which the data is aligned; always there, so that its header always fits."""
        used = self.offset + _LOCAL.size + len(self.name) + _PADDING_HEADER.size
        fill = -used % ALIGNMENT
        return _PADDING_HEADER.pack(_PADDING_ID, fill) + bytes(fill)

    def central_header(self) -> bytes:
        head = (
            _UNIX | _ZIP_VERSION,
            _ZIP_VERSION,
            0,
            0,
            _DOS_TIME,
            _DOS_DATE,
            self.crc,
            self.size,
            self.size,
        )
        tail = (len(self.name), 0, 0, 0, 0, _REGULAR_FILE, self.offset)
        return _CENTRAL.pack(_CENTRAL_MAGIC, *head, *tail) + self.name.encode()


def _directory(entries: Iterable[_Entry], start: int) -> bytes:
    """Central directory and end record of `entries`, the directory beginning at byte `start`."""
    headers = [entry.central_header() for entry in entries]
    size = sum(map(len, headers))
    return b"".join(headers) + _END.pack(_END_MAGIC, 0, 0, len(headers), len(headers), size, start, 0)


def member_record(data: bytes | memoryview) -> MemberRecord:
    """Hash and size of one member."""
    return MemberRecord(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def write_bundle(path: str | os.PathLike[str], manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Writes a bundle; `path` gets its name only when all of it is on disk.

    Raises UserError when the file cannot be written or a member is 4 GiB or more (zip's limit).
    """
    contents = {MANIFEST: manifest.to_json(), **members}
    with atomic_write(path) as file:
        entries: list[_Entry] = []
        offset = 0
        for name in (name for name in MEMBER_ORDER if name in contents):
            data = contents[name]
            entry = _Entry(name, len(data), zlib.crc32(data), offset)
            offset = entry.data_offset + entry.size
            if offset > _MAX_SIZE:
                raise UserError(
                    f"cannot write {os.fspath(path)}",
                    "a bundle holds less than 4 GiB, and this model is larger",
                    "build it without the portable copy (--no-portable)",
                )
            file.write(entry.local_header())
            file.write(data)
            entries.append(entry)
        file.write(_directory(entries, offset))


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose container, manifest and hashes have been checked. Holds no file handle."""

    path: Path
    manifest: Manifest
    _entries: Mapping[str, _Entry]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def data_offset(self, name: str) -> int:
        """Where a member's data begins in the file, in bytes."""
        return self._entries[name].data_offset

    def read(self, name: str) -> bytes:
        """One member's bytes, checked again as they are read: the file may have changed since."""
        data = bytearray(self._entries[name].size)
        self.read_into(name, memoryview(data))
        return bytes(data)

    def read_into(self, name: str, target: memoryview) -> None:
        """Reads one member into memory of exactly its size, and checks it there."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.data_offset(name))
                done = 0
                while done < len(target) and (count := file.readinto(target[done:])):
                    done += count
        except OSError as error:
            raise UserError(
                f"cannot read {self.path}", error.strerror or str(error), "check the file and its permissions"
            ) from error
        if member_record(target) != self.manifest.members[name]:
            raise _damaged(self.path, f"{name} changed while it was being read")


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Opens a bundle and checks all of it: container, manifest, sizes, hashes. Only JSON is deserialised.

    Raises UserError naming the first thing that is wrong. Whether this machine can run the engine is the
    question of `laudc.engine.compat.check_compatible`.
    """
    shown = Path(path)
    try:
        with shown.open("rb") as file:
            entries = _read_directory(shown, file)
            manifest = _read_manifest(shown, file, entries[MANIFEST])
            _check_members(shown, file, manifest, entries)
    except OSError as error:
        raise UserError(
            f"cannot read {shown}", error.strerror or str(error), "check the path and its permissions"
        ) from error
    return Bundle(shown, manifest, entries)


def looks_like_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether the file starts like a bundle does; says nothing about the rest. Raises OSError."""
    with open(path, "rb") as file:
        start = file.read(_LOCAL.size + len(MANIFEST))
    return start[:4] == _LOCAL_MAGIC and start[_LOCAL.size :] == MANIFEST.encode()


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not an intact engine", why, _BUILD_AGAIN.format(path=path))


def _read_directory(path: Path, file: BinaryIO) -> dict[str, _Entry]:
    """The members by name, after comparing every byte that is not member data with what we would write."""
    if file.read(4) != _LOCAL_MAGIC:
        raise UserError(
            f"{path} is not a laudc engine",
            "it does not begin like one",
            "make one: laudc build-engine MODEL.onnx --device cpu -o MODEL.laudc",
        )
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or end[:4] != _END_MAGIC:
        raise _damaged(
            path, f"it is cut off or has something appended: no directory at its end ({size} bytes)"
        )
    _, _, _, _, count, directory_size, start, _ = _END.unpack(end)
    if start + directory_size + _END.size != size or count > len(MEMBER_ORDER):
        raise _damaged(
            path,
            "its directory does not match its size: bytes are missing or were added",
        )
    file.seek(start)
    directory = file.read(directory_size + _END.size)
    entries = _parse_directory(path, directory, count)
    if directory != _directory(entries.values(), start):
        raise _damaged(path, "its directory was changed after it was built")
    _check_layout(path, file, entries, start)
    return entries


def _parse_directory(path: Path, directory: bytes, count: int) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(directory):
            raise _damaged(path, "its directory ends too early")
        fields = _CENTRAL.unpack_from(directory, position)
        crc, stored, size, name_length, offset = fields[7], fields[8], fields[9], fields[10], fields[16]
        position += _CENTRAL.size
        name = directory[position : position + name_length].decode("ascii", errors="replace")
        position += name_length
        if name not in MEMBER_ORDER:
            raise _damaged(path, f"it has a member {name!r}, which engines do not have")
        if name in entries:
            raise _damaged(path, f"it has the member {name!r} twice")
        if fields[4] != 0 or stored != size:
            raise _damaged(path, f"its member {name} is compressed, engines are stored")
        entries[name] = _Entry(name, size, crc, offset)
    for name in (MANIFEST, MODEL, WEIGHTS):
        if name not in entries:
            raise _damaged(path, f"its member {name} is missing")
    return entries


def _check_layout(path: Path, file: BinaryIO, entries: Mapping[str, _Entry], start: int) -> None:
    """Members in their order, back to back from byte 0 to the directory, each behind exactly its header."""
    offset = 0
    for name in (name for name in MEMBER_ORDER if name in entries):
        entry = entries[name]
        if entry.offset != offset:
            raise _damaged(path, f"its member {name} is not where it belongs")
        file.seek(offset)
        header = entry.local_header()
        if file.read(len(header)) != header:
            raise _damaged(path, f"the header of {name} was changed after it was built")
        offset = entry.data_offset + entry.size
    if offset != start:
        raise _damaged(path, "its members do not fill it")


def _read_manifest(path: Path, file: BinaryIO, entry: _Entry) -> Manifest:
    if entry.size > MAX_MANIFEST_BYTES:
        raise _damaged(path, f"its manifest has {entry.size} bytes, more than any engine's")
    file.seek(entry.data_offset)
    raw = file.read(entry.size)
    if zlib.crc32(raw) != entry.crc:
        raise _damaged(path, f"{MANIFEST} was changed after it was built (its checksum differs)")
    try:
        return parse_manifest(raw)
    except NewerFormat as error:
        raise UserError(
            f"{path} has a bundle format that this laudc does not read",
            str(error),
            _BUILD_AGAIN.format(path=path),
        ) from error
    except ValueError as error:
        raise _damaged(path, f"its manifest is not valid: {error}") from error


def _check_members(path: Path, file: BinaryIO, manifest: Manifest, entries: Mapping[str, _Entry]) -> None:
    present = set(entries) - {MANIFEST}
    if present != set(manifest.members):
        raise _damaged(path, f"it holds {sorted(present)}, its manifest lists {sorted(manifest.members)}")
    for name, member in manifest.members.items():
        entry = entries[name]
        if entry.size != member.size:
            raise _damaged(path, f"field 'members.{name}.size': found {entry.size}, wanted {member.size}")
        digest, crc = _hash_range(file, entry.data_offset, entry.size)
        if digest != member.sha256:
            raise _damaged(
                path, f"field 'members.{name}.sha256': found {digest[:16]}..., wanted {member.sha256[:16]}..."
            )
        if crc != entry.crc:
            raise _damaged(path, f"the checksum of {name} was changed after it was built")


def _hash_range(file: BinaryIO, offset: int, size: int) -> tuple[str, int]:
    """SHA-256 and CRC-32 of `size` bytes from `offset`, without holding them all."""
    digest, crc, left = hashlib.sha256(), 0, size
    file.seek(offset)
    while left and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
    return digest.hexdigest(), crc
