"""The page for reviewing: who is answered, what is kept, and when."""

import http.client
import json
import threading
from pathlib import Path

import pytest
from factories import make_workspace

from kaggle_kit.errors import DataError
from kaggle_kit.labels.issues import Suspect
from kaggle_kit.labels.server import Desk, ReviewServer
from kaggle_kit.reviews import read_review

XSS = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("served"), class_names=[XSS, "b", "c"], n_train=12, n_test=2, n_runs=0)


@pytest.fixture
def server(made, tmp_path):
    rows = made.competition.train[:4]
    suspects = [Suspect(row.id, row.path, row.labels, 0.1, True, (("b", 0.6), (XSS, 0.3))) for row in rows]
    desk = Desk(tmp_path / "labels" / "review.csv", made.competition.classes, suspects, multilabel=False)
    with ReviewServer(desk, "Labels") as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield started
        started.shutdown()


def ask(server, path, *, body=None, method=None, **headers):
    """Return status and text of a request, by default as the page itself sends it."""
    host = f"127.0.0.1:{server.server_port}"
    usual = {"Host": host, **({"Origin": f"http://{host}", "Content-Type": "application/json"} if body is not None else {})}
    sent = {**usual, **{key.replace("_", "-"): value for key, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True)
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    for key, value in sent.items():
        if value is not None:
            connection.putheader(key, value)
    if data is not None:
        connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def test_it_listens_to_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.address.startswith("http://127.0.0.1:")
    assert len(server.token) >= 32


def test_the_page_holds_the_rows_and_runs_its_own_script_only(server):
    status, content, headers = ask(server, f"/{server.token}/")
    text = content.decode()
    assert status == 200
    assert text.count("<script") == 2
    assert XSS not in text
    assert "connect-src 'self'" in text.replace("&#39;", "'")
    assert "unsafe-eval" not in text
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    data = json.loads(text[text.index('id="data">') + len('id="data">') : text.index("</script>")])
    assert [item["id"] for item in data["items"]] == [one.id for one in server.desk.suspects]
    assert data["classes"][0] == XSS


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": None}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
def test_others_are_refused_even_with_the_token(server, headers, status):
    assert ask(server, f"/{server.token}/", **headers)[0] == status
    body = {"number": 0, "decision": "drop"}
    assert ask(server, f"/{server.token}/decide", body=body, **headers)[0] == status
    assert not server.desk.path.exists()


def test_a_decision_wants_an_origin(server):
    assert ask(server, f"/{server.token}/decide", body={"number": 0, "decision": "drop"}, Origin=None)[0] == 403


NOWHERE = [
    "",
    "wrong/",
    "{}",
    "{}/../../kk.yaml",
    "{}/image/..%2f..%2fkk.yaml",
    "{}/image/99",
    "{}/image/-1",
    "{}/image/0/../kk.yaml",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_nothing_else_has_an_address(server, path):
    assert ask(server, f"/{path.format(server.token)}")[0] == 404


def test_images_are_named_by_their_number(server):
    status, content, headers = ask(server, f"/{server.token}/image/1")
    assert (status, headers["Content-Type"], content[:4]) == (200, "image/webp", b"RIFF")


def test_decisions_are_written_at_once_and_taken_back(server, made):
    classes = made.competition.classes
    labels = server.desk.suspects[0].labels
    new = next(name for name in classes if (name,) != labels)
    steps = [
        ({"number": 0, "decision": "wrong", "labels": [new]}, ("wrong", (new,))),
        ({"number": 1, "decision": "right", "labels": []}, ("right", server.desk.suspects[1].labels)),
        ({"number": 0, "decision": "drop"}, ("drop", labels)),
    ]
    for body, (decision, kept) in steps:
        status, content, _ = ask(server, f"/{server.token}/decide", body=body)
        assert status == 200
        entry = read_review(server.desk.path, classes).entries[server.desk.suspects[body["number"]].id]
        assert (entry.decision, entry.labels) == (decision, kept)
        assert json.loads(content)["said"]["decision"] == decision
    assert ask(server, f"/{server.token}/undo", body={"number": 0})[0] == 200
    assert list(read_review(server.desk.path, classes).entries) == [server.desk.suspects[1].id]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"number": 0, "decision": "wrong", "labels": ["nowhere"]}, 422),
        ({"number": 0, "decision": "perhaps"}, 422),
        ({"number": 0, "decision": "wrong", "labels": []}, 422),
        ({"number": 0, "decision": "wrong", "labels": "b"}, 400),
        ({"number": "x", "decision": "drop"}, 404),
        ({"number": 44, "decision": "drop"}, 404),
        ([], 400),
        (b"{" * 5000, 400),
        (b"x" * 70_000, 400),
    ],
)
def test_what_makes_no_decision_is_refused_and_nothing_is_written(server, body, status):
    assert ask(server, f"/{server.token}/decide", body=body)[0] == status
    assert not server.desk.path.exists()


def test_a_form_of_another_page_is_no_decision(server):
    body = {"number": 0, "decision": "drop"}
    assert ask(server, f"/{server.token}/decide", body=body, Content_Type="text/plain")[0] == 400
    assert not server.desk.path.exists()


def test_two_pages_of_one_review_keep_the_decisions_of_both(server, made):
    first = server.desk
    second = Desk(first.path, made.competition.classes, first.suspects, multilabel=False)
    first.decide(0, "drop", ())
    assert second.decide(1, "unsure", ())["counts"]["drop"] == 1
    second.decide(2, "right", ())
    first.undo(0)
    kept = read_review(first.path, made.competition.classes).entries
    assert {row_id: one.decision for row_id, one in kept.items()} == {
        first.suspects[1].id: "unsure",
        first.suspects[2].id: "right",
    }


def test_an_image_that_cannot_be_read_is_said(server, made):
    server.desk.suspects[3] = Suspect("gone", Path("/nowhere.png"), ("b",), 0.0, True, ())
    assert ask(server, f"/{server.token}/image/3")[0] == 422


def test_a_review_goes_on_where_it_was_left(server, made):
    ask(server, f"/{server.token}/decide", body={"number": 2, "decision": "unsure"})
    again = Desk(server.desk.path, made.competition.classes, server.desk.suspects, multilabel=False)
    assert again.items()[2]["said"]["decision"] == "unsure"
    changed = [Suspect(one.id, one.path, ("c",) if one.labels != ("c",) else ("b",), 0.1, True, ()) for one in again.suspects]
    with pytest.raises(DataError, match="not those that were reviewed"):
        Desk(server.desk.path, made.competition.classes, changed, multilabel=False)
