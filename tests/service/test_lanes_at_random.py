"""Requests of all kinds behind one another, cut anywhere, by one client or several: the same bytes either way."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from models.store import ArtifactStore
from service.protocols.bodies import KINDS
from tests.service.doors import Door, both_ways
from tests.service.fakes import publish_fake
from tests.service.processes import post
from tests.service.test_kept_lane import LIVE, ROWS, infer
from tests.service.test_kept_texts import infer as infer_text
from tests.service.test_kept_texts import predict as tfs

ROUNDS = 60
NPY = KINDS["application/x-npy"].encode({"x": ROWS})


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, Door]]:
    """One with the lanes, one without. Their queue has room for all that one client sends, which one of them joins."""
    store = ArtifactStore(tmp_path_factory.mktemp("lanes"))
    publish_fake(store, batch_safe=True)
    publish_fake(store, "words", "words", batch_safe=True)
    with both_ways(store, 2, log_level="error", default_model="demo", max_queue_size=10**6) as pair:
        yield pair


def some_request(chance: random.Random) -> bytes:
    numbers = [b"[1.5,2]", b"[%d,2]" % chance.randrange(10), b"[1]", b'[1,"a"]', b"[[1],2]"]
    rows = [chance.choices(numbers, (9, 9, 1, 1, 1))[0]] * chance.choice([1, 1, 1, 3, 500, 9000])
    predict = b'{"instances":[%b]}' % b",".join(rows)
    row = chance.choice(["1.5,2", f"{chance.randrange(10)},2", "1", '1,"a"', "[1],2"])
    texts = [
        infer_text(f"[{row}]", 1, 2),
        infer_text(f"[[{row}],[{row}]]", 2, 2),
        tfs([[1.5, 2]] * chance.choice([1, 1, 3, 500])),
    ]
    return chance.choice(
        [
            *texts,
            infer_text(f"[{row}]", 1, 2, id=str(chance.randrange(3))),
            spoilt(chance.choice(texts), chance),
            tfs([[1]]),
            post(predict),
            post(predict),
            post(predict, b"X-Request-Timeout-Ms: 9000", path=chance.choice([b"/models/demo/predict", b"/nowhere"])),
            post(NPY, b"Content-Type: application/x-npy", b"Accept: " + chance.choice([b"*/*", b"application/x-npy"])),
            post(b'{"instances":[["a","b"]]}', path=b"/models/words/predict"),
            spoilt(post(b'{"instances":[[1,2]]}'), chance),
            infer(ROWS * chance.randrange(1, 9)),
            infer(np.ones((chance.choice([1, 4000]), 2), np.float32)),
            infer(ROWS, id=str(chance.randrange(3))),
            LIVE,
        ]
    )


def spoilt(request: bytes, chance: random.Random) -> bytes:
    """The same with another byte near its end."""
    mutated = bytearray(request)
    mutated[-chance.randrange(1, 20)] = chance.randrange(32, 127)
    return bytes(mutated)


def cut(requests: list[bytes], chance: random.Random) -> list[bytes]:
    """What they are sent in: now and then request by request, and mostly not."""
    data = b"".join(requests)
    places = {chance.randrange(1, len(data)) for _ in range(chance.choice([0, 0, 1, 2, 4]))}
    if chance.random() < 0.4:
        places |= {sum(map(len, requests[:number])) for number in range(1, len(requests))}
    ends = sorted(places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_requests_at_random_get_the_same_bytes_either_way(doors: tuple[Door, Door], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        requests = [some_request(chance) for _ in range(chance.randrange(1, 7))]
        parts, has_company = cut(requests, chance), chance.random() < 0.5
        answers = []
        for door in doors:
            with ExitStack() as stack:
                if has_company:
                    stack.enter_context(door.connect()).send(LIVE).answer()
                wire = stack.enter_context(door.connect())
                wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for part in parts:
                    wire.send(part)
                answers.append([wire.answer() for _ in requests])
        assert answers[0] == answers[1]
