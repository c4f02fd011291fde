"""The client against real nodes: NETWORKDB_BINARY is the program networkdb."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
from typing import Any, Dict, Iterator, List

from networkdb_client import Client, ProblemError

BINARY = os.environ["NETWORKDB_BINARY"]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


class Node:
    """A process."""

    def __init__(self, name: str, bind: str, seed: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("NETWORKDB_")}
        environment["XDG_RUNTIME_DIR"] = tempfile.gettempdir()
        arguments = ["--name", name, "--bind", bind, "--seed", seed, "--http", "127.0.0.1:0", "--admin-socket", "off"]
        self.process = subprocess.Popen(
            [BINARY, "run", "--preset", "loopback", "--http-open", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        assert self.process.stdout is not None
        banner = self.process.stdout.readline()
        found = re.search(r"diagnostics: (http://[^/]*)/", banner)
        assert found, banner
        self.address = found.group(1)

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class ClientTest(unittest.TestCase):
    def setUp(self) -> None:
        first = f"127.0.0.1:{free_port()}"
        binds = {"a": first, "b": "127.0.0.1:0", "c": "127.0.0.1:0"}
        self.nodes: List[Node] = []
        for name, bind in binds.items():
            self.nodes.append(Node(name, bind, first))
            self.addCleanup(self.nodes[-1].close)
            Client(self.nodes[-1].address).join_network("blue")
        # A test that waits for ever fails.
        limit = threading.Timer(60, os._exit, [3])
        limit.start()
        self.addCleanup(limit.cancel)

    def client(self) -> Client:
        return Client(*(node.address for node in self.nodes), timeout=15)

    def test_an_entry_is_put_read_and_deleted(self) -> None:
        client = self.client()
        self.assertIsNone(client.get("blue", "t", "a/../b"))
        version = client.put("blue", "t", "a/../b", b"\xff\x00", create=True)
        entry = client.get("blue", "t", "a/../b")
        assert entry is not None
        self.assertEqual((entry.value, entry.version), (b"\xff\x00", version))
        with self.assertRaises(ProblemError) as refused:
            client.put("blue", "t", "a/../b", b"", create=True)
        self.assertEqual((refused.exception.code, refused.exception.status), ("precondition_failed", 412))
        changed = client.put("blue", "t", "a/../b", "ż".encode(), version=version)
        with self.assertRaises(ProblemError):
            client.delete("blue", "t", "a/../b", version=version)
        self.assertEqual([entry.value for entry in client.entries("blue", "t", "a/")], ["ż".encode()])
        client.delete("blue", "t", "a/../b", version=changed)
        self.assertEqual(client.entries("blue", "t"), [])
        self.assertEqual([network["network"] for network in client.networks()], ["blue"])

    def test_a_watch_goes_on_when_its_node_ends(self) -> None:
        writer = Client(self.nodes[2].address)
        writer.put("blue", "t", "k1", b"1")
        watch = self.client().watch(network="blue", table="t")
        events: Iterator[Any] = iter(watch)
        self.assertEqual(self.until(events, "k1")[-1].get("value"), "1")
        for number, which in ((signal.SIGKILL, 0), (signal.SIGTERM, 1)):
            self.nodes[which].end(number)
            writer.put("blue", "t", f"k{which + 2}", b"2")
            received = self.until(events, f"k{which + 2}")
            # It does not start over: nothing comes twice.
            self.assertEqual([event for event in received if event["event"] == "reset"], [])
            self.assertEqual(len([event for event in received if event["event"] == "put"]), 1)
        self.assertTrue(watch.cursor)

    def test_a_table_is_followed(self) -> None:
        client = self.client()
        client.put("blue", "t", "k", b"1")
        tables = client.follow("blue", "t")
        while next(tables) != {"k": b"1"}:
            pass
        client.put("blue", "t", "k", b"\xfe")
        while next(tables) != {"k": b"\xfe"}:
            pass
        client.delete("blue", "t", "k")
        while next(tables) != {}:
            pass

    def until(self, events: Iterator[Dict[str, Any]], key: str) -> List[Dict[str, Any]]:
        received = []
        for event in events:
            received.append(event)
            if event.get("key") == key:
                return received
        return received


if __name__ == "__main__":
    unittest.main()
