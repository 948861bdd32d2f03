import pytest

from kaggle_kit.errors import MissingFileError
from kaggle_kit.events import Warned
from kaggle_kit.launch.mailbox import Mailbox


def test_a_mailbox_gives_each_event_once_and_waits_for_whole_lines(tmp_path):
    box = Mailbox(tmp_path / "box")
    box.open()
    other = Mailbox(tmp_path / "box")
    other.send("a", Warned(0, "1"))
    other.send("b", Warned(0, "2"))
    assert box.receive() == [Warned(0, "1"), Warned(0, "2")]
    with open(tmp_path / "box" / "a.jsonl", "a") as file:
        file.write('{"event": "warning", ')
        file.flush()
        assert box.receive() == []
        file.write('"fold": 0, "text": "3"}\n')
    assert box.receive() == [Warned(0, "3")]


def test_a_mailbox_asks_to_stop_also_when_it_is_gone(tmp_path):
    box = Mailbox(tmp_path / "box")
    box.open()
    assert box.asked() is None
    box.ask_to_stop("enough")
    assert box.asked() == "enough"
    gone = Mailbox(tmp_path / "gone")
    assert gone.asked() == "the launcher has ended"
    with pytest.raises(MissingFileError, match="has ended"):
        gone.send("a", Warned(0, ""))
