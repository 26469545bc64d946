"""A remote_write receiver on loopback, with an independent protobuf reader."""

import asyncio
import struct
from dataclasses import dataclass, field

import cramjam


def read_fields(data):
    """Yield (number, value) of a protobuf message; written from the encoding specification."""
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = read_varint(data, position)
        elif kind == 1:
            value, position = struct.unpack("<d", data[position : position + 8])[0], position + 8
        else:
            length, position = read_varint(data, position)
            value, position = data[position : position + length], position + length
        yield number, value


def read_varint(data, position):
    """(number, next position)."""
    number = shift = 0
    while True:
        number |= (data[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if data[position - 1] < 0x80:
            return number, position


def read_request(body):
    """[(labels as pairs, value, ms)] of a compressed WriteRequest."""
    samples = []
    for number, series in read_fields(bytes(cramjam.snappy.decompress_raw(body))):
        assert number == 1
        parts = list(read_fields(series))
        labels = [tuple(v.decode() for _, v in read_fields(p)) for n, p in parts if n == 1]
        (sample,) = (dict(read_fields(p)) for n, p in parts if n == 2)
        samples.append((labels, sample[1], sample[2]))
    return samples


@dataclass
class RemoteWriteReceiver:
    """A server on loopback that sends the prepared responses, then 204."""

    port: int = 0
    responses: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    request_arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    @property
    def samples(self):
        return [row for _, _, body in self.requests for row in read_request(body)]

    async def wait_for_requests(self, n):
        """Wait for the n-th request."""
        async with asyncio.timeout(10):
            while len(self.requests) < n:
                self.request_arrived.clear()
                await self.request_arrived.wait()

    async def handle(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *rest = head.decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (h.split(": ", 1) for h in rest)}
            body = await reader.readexactly(int(headers["content-length"]))
            answer = self.responses.pop(0) if self.responses else (204, {}, b"")
            self.requests.append((line, headers, body))
            self.request_arrived.set()
            if answer is None:
                return
            status, extra, text = answer
            lines = "".join(f"{k}: {v}\r\n" for k, v in {"Content-Length": len(text), **extra}.items())
            writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + text)
            await writer.drain()
