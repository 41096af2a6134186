"""A name server on loopback, over UDP and TCP, that answers as a test says, wrong ways included."""

import socket
from collections import Counter

import trio
from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSRecord

MANY = [f"198.51.{n // 250}.{n % 250}" for n in range(500)]


def _bound_to_one_port() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    for _ in range(100):
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("127.0.0.1", 0))
            udp.bind(tcp.getsockname())
        except OSError:  # somebody else has that port of the other kind
            udp.close()
            tcp.close()
        else:
            return trio.socket.from_stdlib_socket(udp), trio.socket.from_stdlib_socket(tcp)
    raise AssertionError("no port is free for both UDP and TCP")


class StubDns:
    """`names` says what a name has: addresses, or one alias; `faults` what happens to a question instead.

    Both may be changed at any time. A fault is the name of an RCODE, or `silent`, `silent AAAA`, `lost once`,
    `garbage`, `wrong id`, `wrong id first`, `truncated` (UDP only), `truncated, no TCP`, `truncated, TCP cut`,
    `bare alias`, `huge`.
    An answer that does not fit in 512 bytes is truncated over UDP, as it must be.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.faults: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        """`("udp", "a.example", "AAAA")` for each question that came."""
        self.address = ("127.0.0.1", 0)

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        udp, tcp = _bound_to_one_port()
        with udp, tcp:
            self.address = tcp.getsockname()
            tcp.listen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve_tcp, [trio.SocketListener(tcp)])
                task_status.started()
                while True:
                    data, peer = await udp.recvfrom(4096)
                    for reply in self._replies("udp", data):
                        await udp.sendto(reply, peer)

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        data = await stream.receive_some(4096)
        replies = self._replies("tcp", data[2:]) if data else [b""]
        for reply in replies:
            announced = len(reply) or 100  # an empty one is cut off before its first byte
            await stream.send_all(announced.to_bytes(2, "big") + reply)
        if not replies:
            await stream.receive_some()  # says nothing for as long as the other side waits

    def _replies(self, via: str, data: bytes) -> list[bytes]:
        question = DNSRecord.parse(data)
        name, kind = str(question.q.qname).rstrip("."), QTYPE[question.q.qtype]
        self.asked.append((via, name, kind))
        fault = self.faults.get(name, "")
        if fault in ("silent", f"silent {kind}") or (fault == "truncated, no TCP" and via == "tcp"):
            return []
        if fault == "lost once" and Counter(self.asked)[(via, name, kind)] == 1:
            return []
        if fault == "garbage":
            return [b"\x00\x01garbage"]
        if fault == "truncated, TCP cut" and via == "tcp":
            return [b""]
        if fault == "huge" and via == "tcp":
            return [b"\x00" * 65535]
        reply = self._reply(question, name, kind, fault)
        cut = question.reply()
        cut.header.tc = 1
        if via == "udp" and (fault.startswith("truncated") or fault == "huge" or len(reply.pack()) > 512):
            return [cut.pack()]
        if fault.startswith("wrong id"):
            wrong = DNSRecord.parse(reply.pack())
            wrong.header.id ^= 1
            return [wrong.pack(), reply.pack()] if fault == "wrong id first" else [wrong.pack()]
        return [reply.pack()]

    def _reply(self, question: DNSRecord, name: str, kind: str, fault: str) -> DNSRecord:
        reply = question.reply()
        if name not in self.names and fault != "NOERROR":
            reply.header.rcode = RCODE.NXDOMAIN
        if fault in RCODE.reverse:
            reply.header.rcode = getattr(RCODE, fault)
            return reply
        for _ in range(20):
            records = self.names.get(name, [])
            alias = next((each for each in records if each[-1].isalpha() and ":" not in each), None)
            if alias is None:
                break
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(alias)))
            if fault == "bare alias":
                return reply
            name = alias
        for ip in dict.fromkeys(records) if alias is None else ():
            if (kind == "AAAA") == (":" in ip):
                rdata = AAAA(ip) if kind == "AAAA" else A(ip)
                reply.add_answer(RR(name, getattr(QTYPE, kind), rdata=rdata))
        return reply
