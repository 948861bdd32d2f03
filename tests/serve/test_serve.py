"""Serving: each client gets what ``kk predict`` says of its own image, bad requests get 4xx, and nobody waits for ever."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from handmade_run import CLASSES, make_world, write_image
from live_server import FORM, expected, files_of, form, pause, probabilities, served
from PIL import Image

from kaggle_kit import Project
from kaggle_kit.errors import ConfigError, DependencyError, DeviceMemoryError
from kaggle_kit.serve import Limits, ServeOptions, serve
from kaggle_kit.serve import run as serving
from kaggle_kit.serve.batches import Batches, BusyError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(world):
    with served(world) as made:
        yield made


def test_it_says_what_kk_predict_says(world, client):
    files, wanted = files_of(world), expected(world)
    status, answer = client.post(*files, query="?top=3")
    assert status == 200
    assert [one["file"] for one in answer["predictions"]] == [name for name, _ in files]
    for one in answer["predictions"]:
        assert np.abs(probabilities(one) - wanted[one["file"]]).max() < 1e-5
        assert one["labels"] == CLASSES.top(wanted[one["file"]][None])
        assert list(one["probabilities"].values()) == sorted(one["probabilities"].values(), reverse=True)
    assert len(client.post(files[0], query="?top=1")[1]["predictions"][0]["probabilities"]) == 1


def test_many_clients_each_get_their_own_answer_and_none_is_lost(world, client):
    files, wanted = files_of(world), expected(world)

    def one(number: int) -> tuple[int, str, np.ndarray]:
        file = files[number % len(files)]
        status, answer = client.post(file, query="?top=3")
        return status, file[0], probabilities(answer["predictions"][0])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(160)))
    assert [status for status, _, _ in answers] == [200] * 160
    assert max(np.abs(probs - wanted[name]).max() for _, name, probs in answers) < 1e-5


def test_what_waits_is_computed_together(world, monkeypatch):
    with served(world) as client:
        go, lengths = threading.Event(), []
        compute = client.desk.models.predict

        def held(images):
            go.wait(20)
            lengths.append(len(images))
            return compute(images)

        monkeypatch.setattr(client.desk._batches, "_compute", held)
        with ThreadPoolExecutor(9) as pool:
            first = pool.submit(client.post, files_of(world)[0])
            while client.desk._batches.waiting or not client.desk._batches.working:
                pause()
            answers = [first, *(pool.submit(client.post, file) for file in files_of(world)[1:9])]
            while client.desk._batches.waiting < 8:
                pause()
            go.set()
            assert [answer.result()[0] for answer in answers] == [200] * 9
        assert lengths == [1, 8]


def truncated() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()[:2000]


@pytest.mark.parametrize("data", [b"", b"no image", truncated(), b"\xff\xd8\xff\xe0" + bytes(500), b"GIF89a"])
def test_bad_files_are_answered_with_422_and_a_reason(client, data):
    status, answer = client.post(("bad.jpg", data))
    assert status == 422
    assert answer["detail"][0].startswith("bad.jpg: ")


def test_a_bad_file_does_not_keep_others_from_being_predicted(world, client):
    status, answer = client.post(("bad.jpg", b""), files_of(world)[0])
    assert status == 200
    bad, other = answer["predictions"]
    assert (bad["labels"], bad["probabilities"], bad["error"]) == ([], {}, "bad.jpg: the file is empty (0 bytes).")
    assert other["labels"]


def test_what_is_too_large_or_too_much_is_refused(world):
    good, stream = files_of(world)[0], io.BytesIO()
    Image.new("RGB", (200, 100)).save(stream, "PNG")
    with served(world, Limits(file_bytes=5_000, request_bytes=20_000, files=3, pixels=10_000)) as client:
        assert client.post(("large.png", bytes(6_000)))[0] == 422
        assert "100 x 200 pixels" in client.post(("wide.png", stream.getvalue()))[1]["detail"][0]
        assert client.post(*[good] * 4)[0] == 413
        assert client.post(("huge.png", bytes(30_000)))[0] == 413
        body = form(("huge.png", bytes(30_000)))
        with socket.create_connection(("127.0.0.1", client.port)) as raw:  # without a length, as of a stream
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nTransfer-Encoding: chunked\r\n"
            raw.sendall(
                f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
            )
            assert b" 413 " in raw.recv(100)
        assert client.post(good)[0] == 200


def test_who_must_not_ask_is_refused(world, client):
    good = files_of(world)[0]
    assert client.post(good, Host="evil.example")[0] == 403
    assert client.post(good, Origin="http://evil.example")[0] == 403
    assert client.post(good, Origin=f"http://127.0.0.1:{client.port}")[0] == 200
    assert client.ask("GET", "/health", Host=f"localhost:{client.port}")[0] == 200
    assert client.ask("GET", "/docs")[0] == 404
    assert client.ask("POST", "/predict", b"{}", **{"Content-Type": "application/json"})[0] == 422
    with served(world, hosts=frozenset()) as anybody:
        assert anybody.ask("GET", "/health", Host="model.example")[0] == 200


def test_a_request_that_comes_too_slowly_is_ended(world):
    with served(world, Limits(seconds=0.3)) as client, socket.create_connection(("127.0.0.1", client.port)) as raw:
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nContent-Length: 1000\r\n"
        raw.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n--x".encode())
        raw.settimeout(20)
        assert b" 408 " in raw.recv(100)


def test_too_many_that_wait_are_told_to_come_again_and_too_long_a_wait_ends(world, monkeypatch):
    good = files_of(world)[0]
    with served(world, Limits(waiting=2, seconds=3.0)) as client:
        go = threading.Event()
        compute = client.desk.models.predict
        monkeypatch.setattr(client.desk._batches, "_compute", lambda images: go.wait(20) and compute(images))
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(client.post, good)]
            while not client.desk._batches.working:
                pause()
            answers += [pool.submit(client.post, good) for _ in range(7)]
            statuses = [answer.result()[0] for answer in answers]
        assert set(statuses) == {503, 504}
        assert 3 <= statuses.count(504) <= 5  # two that waited, and one to three that were in work
        go.set()
        monkeypatch.setattr(client.desk._batches, "_compute", compute)
        while client.desk._batches.waiting or client.desk._batches.working:
            pause()
        assert client.post(good)[0] == 200


def test_a_failure_is_told_to_who_asked_and_the_server_goes_on(world, monkeypatch):
    good = files_of(world)[0]
    with served(world) as client:
        compute = client.desk.models.predict

        def fail(_):
            raise DeviceMemoryError("the memory is full")

        monkeypatch.setattr(client.desk._batches, "_compute", fail)
        assert client.post(good) == (500, {"detail": "the memory is full"})
        monkeypatch.setattr(client.desk._batches, "_compute", compute)
        assert client.post(good)[0] == 200


def test_what_was_begun_is_answered_before_it_ends(world, monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        with served(world) as client:
            begun, compute = threading.Event(), client.desk.models.predict

            def slow(images):
                begun.set()
                pause(0.5)
                return compute(images)

            monkeypatch.setattr(client.desk._batches, "_compute", slow)
            answer = pool.submit(client.post, files_of(world)[0])
            assert begun.wait(20)
        assert answer.result()[0] == 200  # the server has ended


def test_health_metrics_and_the_interface_are_told(world, client):
    client.post(files_of(world)[0])
    client.post(("bad.jpg", b""))
    health = json.loads(client.ask("GET", "/health")[1])
    assert health == {"status": "ok", "model": "r", "engine": "torch", "classes": 3}
    text = client.ask("GET", "/metrics")[1]
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'kk_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \S+', line) for line in lines)
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert values['kk_requests_total{path="/predict",status="200"}'] >= 1
    assert values['kk_images_total{outcome="unreadable"}'] >= 1
    assert values['kk_predict_seconds_bucket{le="+Inf"}'] == values["kk_predict_seconds_count"]
    assert values["kk_batch_images_sum"] == values['kk_images_total{outcome="predicted"}']
    schema = json.loads(client.ask("GET", "/openapi.json")[1])
    assert set(schema["paths"]) == {"/predict", "/health", "/metrics"}
    assert {"200", "413", "422", "503"} <= set(schema["paths"]["/predict"]["post"]["responses"])


def test_the_page_loads_nothing_from_elsewhere(client):
    status, page = client.ask("GET", "/")
    assert status == 200
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert 'type="file"' in page


def test_of_several_labels_all_that_reach_their_thresholds_are_named(tmp_path):
    world = make_world(tmp_path, task="multilabel")
    wanted = expected(world)
    with served(world) as client:
        for one in client.post(*files_of(world), query="?top=3")[1]["predictions"]:
            likely = {name for name, share in zip(CLASSES, wanted[one["file"]], strict=True) if share >= 0.5}
            assert set(one["labels"]) == likely


def test_batches_leave_out_what_was_cancelled_and_compute_the_rest_at_the_end():
    go, done = threading.Event(), []

    def compute(items):
        go.wait(20)
        done.extend(items)
        return items

    batches: Batches[int, int] = Batches(compute, largest=2, waiting=10, told=lambda _: None)
    first = batches.submit(0)
    while not batches.working:
        pause()
    futures = [batches.submit(number) for number in range(1, 6)]
    assert futures[4].cancel()
    threading.Timer(0.05, go.set).start()
    batches.close()
    assert done == [0, 1, 2, 3, 4]
    assert [future.result() for future in (first, *futures[:4])] == done
    with pytest.raises(BusyError):
        batches.submit(7)


def test_a_port_that_is_taken_and_packages_that_are_missing_are_told_at_once(world, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"cannot listen at 127\.0\.0\.1:\d+ \(.*--port"):
            serve(world.setup, "r", ServeOptions(port=taken.getsockname()[1]), say=print)
    monkeypatch.setattr(serving, "_NEEDS", ("no_such_package",))
    with pytest.raises(DependencyError, match=r"no_such_package.*kaggle-kit\[serve\]"):
        serve(world.setup, "r", ServeOptions(), say=print)


def test_ctrl_c_ends_the_command_with_what_was_done(tmp_path):
    for number in range(12):
        image = write_image(tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}.png", number)
    project = Project.init(tmp_path / "data", tmp_path / "work")
    project.folds(n_folds=2, duplicates="off")
    project.train(run="a", model="test_resnet", pretrained=False, image_size=32, strategy="probe")
    command = [sys.executable, "-m", "kaggle_kit", "serve", "--port", "0", "--engine", "torch"]
    process = subprocess.Popen(command, cwd=tmp_path / "work", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("POST", "/predict", form(("0.png", image.read_bytes())), FORM)
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "a: predicted 1 images" in out
