"""Which functions stay off threads under "auto", and why."""

from __future__ import annotations

import functools
import http.client
import json
import os
import queue
import signal
import socket
import sqlite3
import threading
import time
import urllib.request

import pytest

from amorsize.code.sharing import why_not_shared

COUNT = 0
CACHE = {}
LOCAL = threading.local()
NUMBERS = iter(range(10))
CONNECTION = http.client.HTTPConnection("localhost")
QUEUE = queue.SimpleQueue()


class Client:
    """A client of the user's."""

    def __init__(self, base):
        self.base = base
        self.last = None
        self.current = {}

    def fetch(self, path):
        with urllib.request.urlopen(self.base + path) as reply:  # noqa: S310 - never called
            return reply.read()

    def remember(self, path):
        self.last = path
        time.sleep(0.01)
        return self.last

    def keep(self, path):
        self.current["path"] = path
        return self.current["path"]

    def through_another(self, path):
        return self.remember(path)

    def __call__(self, path):
        return self.fetch(path)


def fetch(address):
    with urllib.request.urlopen(address) as reply:  # noqa: S310 - never called
        return json.loads(reply.read())


def makes_its_own(number):
    found = {}
    found[number] = [number]
    client = Client("x")
    client.last = number
    return client, [one + 1 for one in found]


def rebinds_a_global(number):
    global COUNT
    COUNT += number


def through_a_helper(number):
    return rebinds_a_global(number)


def fills_a_cache(number):
    CACHE[number] = number


def sets_an_attribute(number):
    rebinds_a_global.last = number


def local(number):
    return LOCAL.value


def draws_on(number):
    return next(NUMBERS)


def connected(number):
    CONNECTION.request("GET", str(number))


def changes_folder(path):
    os.chdir(path)


def alarmed(number):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def of_a_database(number):
    return sqlite3.connect("x").execute(str(number))


STACK = []
SETTINGS = {}
BUFFER = bytearray(100)


def stacked(number):
    STACK.append(number)
    time.sleep(0.01)
    return STACK.pop()


def updated(number):
    SETTINGS.update(number=number)
    return SETTINGS["number"]


def read_into(path):
    with open(path, "rb") as file:
        file.readinto(BUFFER)
    return sum(BUFFER)


@functools.lru_cache
def connection():
    return http.client.HTTPConnection("localhost").connect()


def of_a_cached_connection(number):
    return connection().request(number)


def reads_settings(number):
    return SETTINGS.get(number), sum(BUFFER)


def queued(number):
    return QUEUE.get()


def counting():
    count = 0

    def counted(number):
        nonlocal count
        count += 1
        return count

    return counted


@pytest.mark.parametrize(
    "function",
    [
        fetch,
        makes_its_own,
        queued,
        reads_settings,
        Client("a").fetch,
        Client("a"),
        functools.partial(fetch),
        functools.lru_cache(fetch),
        lambda address: fetch(address + "/"),
        time.sleep,
        urllib.request.urlopen,
        str.upper,
    ],
    ids=repr,
)
def test_what_threads_may_share(function):
    """What only waits, makes its own things, or leaves them to packages."""
    assert why_not_shared(function) == ""


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (rebinds_a_global, "rebinds COUNT"),
        (through_a_helper, "rebinds COUNT"),
        (counting(), "rebinds count"),
        (fills_a_cache, "reaches CACHE"),
        (sets_an_attribute, "attribute last"),
        (stacked, "append of a container"),
        (updated, "update of a container"),
        (read_into, "fills memory"),
        (of_a_cached_connection, "cache of connection"),
        (Client("a").keep, "containers"),
        (Client("a").remember, "attribute last"),
        (Client("a").through_another, "attribute last"),
        (local, "local"),
        (draws_on, "iterator"),
        (connected, "HTTPConnection"),
        (changes_folder, "chdir"),
        (alarmed, "signal"),
        (of_a_database, "sqlite3"),
        (functools.partial(fetch, threading.local()), "local"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_threads_must_not_share(function, reason):
    """With the reason in words."""
    assert reason in why_not_shared(function)


def test_open_files_and_sockets_serve_one_at_a_time(tmp_path):
    """As globals, bound objects, or in closures."""
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "x", "w+") as file:

        def reads(size):
            return file.read(size)

        holder = Client("a")
        holder.socket = ours

        assert "TextIOWrapper" in why_not_shared(reads)
        assert "TextIOWrapper" in why_not_shared(file.read)
        assert "socket" in why_not_shared(holder.fetch)
        assert "socket" in why_not_shared(ours.recv)


def test_an_object_that_cannot_be_looked_at_stays():
    """Whatever its code raises."""

    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError(name)

        def __call__(self, number):
            return number

    assert "cannot be read" in why_not_shared(Hostile())
