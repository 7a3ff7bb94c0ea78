"""The journal: one writer, all or nothing, readable after a kill at any moment."""

import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from surefit.edges import journal
from surefit.edges.journal import Message
from surefit.errors import InputError, ServiceError, SurefitError

FOLDS = 3


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "search.journal"


@pytest.fixture
def record(path):
    with journal.open(path, "abc") as opened:
        yield opened


def message(number):
    return Message(key=f"abc/{number}/1", kind="trial", payload={"number": number})


def write_trial(record, number, payload=b"x" * 5000):
    """One trial as the engine writes it: asked, each fold, the end with its message."""
    record.ask(number, {"rate": number / 7}, [None, 0.5])
    for fold in range(FOLDS):
        token = record.lease(number, fold)
        assert record.commit_fold(
            number, fold, token=token, state="COMPLETE", score=number + fold / 10, payload=payload
        )
    record.finish_trial(number, "COMPLETE", number + 0.1, message=message(number))


def forever(path):
    """What the killed process does: goes on with the search until it dies."""
    with journal.open(path, "abc") as record:
        for trial in record.unfinished():
            done = {fold.fold for fold in record.folds(trial.number)}
            for fold in set(range(FOLDS)) - done:
                token = record.lease(trial.number, fold)
                score = trial.number + fold / 10
                record.commit_fold(
                    trial.number, fold, token=token, state="COMPLETE", score=score, payload=b"x"
                )
            record.finish_trial(
                trial.number, "COMPLETE", trial.number + 0.1, message=message(trial.number)
            )
        print("writing", flush=True)
        number = len(record.trials())
        while True:
            write_trial(record, number)
            number += 1


def start(code, path):
    """A process that imports this file and runs `code` with `path`."""
    text = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    text += f"import test_journal as t\n{code}({str(path)!r})"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_what_is_written_is_read_back_after_closing(path):
    """Trials, folds, predictions and the parent's id survive closing, value for value."""
    with journal.open(path, "abc") as record:
        write_trial(record, 0, payload=b"\x00predictions")
        record.ask(1, {"b": True, "a": 0.1 + 0.2}, None)
        record.set_parent("run0")
    with journal.open(path, "abc") as record:
        assert record.parent_run_id == "run0"
        first, second = record.trials()
        assert (first.state, first.value, first.thresholds) == ("COMPLETE", 0.1, [None, 0.5])
        assert first.ended is not None
        assert first.ended >= first.started
        assert (second.params, second.state) == ({"b": True, "a": 0.1 + 0.2}, "ASKED")
        assert record.unfinished() == [second]
        assert [f.score for f in record.folds(0)] == [0, 0.1, 0.2]
        assert record.folds() == record.folds(0)
        assert record.payload(0, 1) == b"\x00predictions"
        record.drop_payloads([0])
        assert record.payload(0, 1) is record.payload(5, 5) is None
        assert len(record.folds(0)) == FOLDS


def test_a_fold_counts_once(record):
    """The same result again is ignored; another one contradicts the record."""
    record.ask(0, {})
    token = record.lease(0, 0)
    assert record.commit_fold(0, 0, token=token, state="COMPLETE", score=0.5)
    assert not record.commit_fold(0, 0, token=token, state="COMPLETE", score=0.5)
    with pytest.raises(SurefitError, match="contradicts"):
        record.commit_fold(0, 0, token=token, state="COMPLETE", score=0.6)
    with pytest.raises(SurefitError, match="contradicts"):
        record.commit_fold(0, 0, token=token, state="FAILED", reason="hung")
    assert [f.score for f in record.folds(0)] == [0.5]


def test_a_late_worker_does_not_count(path):
    """Tokens end with the next lease, with the trial's end and with the process that gave them."""
    with journal.open(path, "abc") as record:
        record.ask(0, {})
        old, new = record.lease(0, 0), record.lease(0, 0)
        assert not record.commit_fold(0, 0, token=old, state="COMPLETE", score=9.0)
        assert record.commit_fold(0, 0, token=new, state="COMPLETE", score=0.5)
        stale = record.lease(0, 1)
    with journal.open(path, "abc") as record:
        assert record.lease(0, 1) != stale
        assert not record.commit_fold(0, 1, token=stale, state="COMPLETE", score=0.5)
        record.finish_trial(0, "PRUNED", 0.5, "worse than the third best")
        token = record.lease(0, 2)
        assert not record.commit_fold(0, 2, token=token, state="COMPLETE", score=0.5)
        assert [fold.fold for fold in record.folds(0)] == [0]


@pytest.mark.parametrize("state", ["PRUNED", "FAILED"])
def test_folds_behind_the_one_that_decided_are_forgotten(record, state):
    """What a faster worker had finished ahead is no part of what the trial did."""
    record.ask(0, {})
    for fold in (2, 0, 1):
        record.commit_fold(0, fold, token=record.lease(0, fold), state="COMPLETE", score=0.1 * fold)
    record.finish_trial(0, state, reason="behind after fold 1", last=1)
    assert [fold.fold for fold in record.folds(0)] == [0, 1]


def test_trials_are_asked_and_end_once(record):
    """Repeats do nothing; gaps, other values and values that are not finite are refused."""
    record.ask(0, {"a": 1})
    record.ask(0, {"a": 1})
    record.finish_trial(0, "FAILED", reason="raised", message=message(0))
    record.finish_trial(0, "FAILED", reason="raised", message=message(0))
    assert len(record.outbox_pending()) == 1
    for call in (
        lambda: record.ask(0, {"a": 2}),
        lambda: record.ask(2, {"a": 1}),
        lambda: record.ask(1, {"a": math.nan}),
        lambda: record.ask(1, {"a": object()}),
        lambda: record.finish_trial(0, "COMPLETE", 1.0),
        lambda: record.finish_trial(1, "COMPLETE", 1.0),
        lambda: record.finish_trial(1, "COMPLETE", math.inf),
        lambda: record.finish_trial(1, "COMPLETE"),
        lambda: record.commit_fold(1, 0, token=record.lease(1, 0), state="COMPLETE", score=1.0),
    ):
        with pytest.raises(SurefitError) as caught:
            call()
        assert caught.value.exit_code == 70
    assert len(record.trials()) == 1


def test_the_end_and_its_message_are_one(record):
    """When the message cannot be kept, the trial has not ended either."""
    record.ask(0, {})
    bad = Message(key="k", kind="trial", payload={"score": math.nan})
    with pytest.raises(SurefitError):
        record.finish_trial(0, "COMPLETE", 1.0, message=bad)
    assert [t.state for t in record.trials()] == ["ASKED"]
    assert record.outbox_pending() == []


def test_the_outbox_keeps_what_has_not_arrived(path):
    """Messages come oldest first until done; a repeated key is ignored."""
    with journal.open(path, "abc") as record:
        for number in range(4):
            record.ask(number, {})
        for number in (2, 0, 1):
            record.finish_trial(number, "COMPLETE", 1.0, message=message(number))
        record.finish_trial(3, "COMPLETE", 1.0, message=message(2))
        record.mark_done("abc/2/1", "run2")
    with journal.open(path, "abc") as record:
        pending = record.outbox_pending()
        assert [p.key for p in pending] == ["abc/0/1", "abc/1/1"]
        assert pending[0].payload == {"number": 0}
        with pytest.raises(SurefitError):
            record.mark_done("unknown", "run")


def test_a_second_writer_is_told_who_has_it(path, record):
    """Another holder means InputError with its process and what to do; nothing is waited for."""
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"process {os.getpid()} on .* since \d{{4}}-") as caught:
        journal.open(path, "abc")
    assert f"kill {os.getpid()}" in caught.value.fix
    assert time.monotonic() - began < 1
    record.close()
    record.close()
    journal.open(path, "abc").close()


def test_a_holders_note_that_is_garbage_does_no_harm(path, record):
    """The lock decides, not the text in its file."""
    Path(f"{path}.lock").write_text("{")
    with pytest.raises(InputError, match="another process"):
        journal.open(path, "abc")


def hold(path):
    """Open, fork a child that outlives us, and wait to be killed."""
    with journal.open(path, "abc"):
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            os.close(1)
            time.sleep(20)
            os._exit(0)
        time.sleep(20)


def test_a_dead_holders_lock_is_free_though_its_child_lives(path):
    """The lock ends with the process that took it, not with what it forked."""
    process = start("t.hold", path)
    child = int(process.stdout.readline())
    try:
        with pytest.raises(InputError):
            journal.open(path, "abc")
        process.kill()
        process.wait()
        journal.open(path, "abc").close()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def check(path):
    """The invariants of any journal that `forever` wrote; gives the number of finished trials."""
    with journal.open(path, "abc") as record:
        trials = record.trials()
        assert [t.number for t in trials] == list(range(len(trials)))
        assert len(record.unfinished()) <= 1
        finished = {t.number for t in trials if t.state == "COMPLETE"}
        sent = {p.payload["number"] for p in record.outbox_pending()}
        assert sent == finished
        for number in finished:
            assert [f.fold for f in record.folds(number)] == list(range(FOLDS))
            assert record.payload(number, 0)
        return len(finished)


def test_a_kill_at_any_moment_loses_nothing_that_was_recorded(path):
    """Twelve kills while writing: each time the file opens, is whole, and the search goes on."""
    dice, finished = random.Random(0), 0
    for _ in range(12):
        with start("t.forever", path) as process:
            assert process.stdout.readline() == "writing\n"
            time.sleep(dice.uniform(0, 0.12))
            process.kill()
        now = check(path)
        assert now >= finished
        finished = now
    assert finished > 2


def test_a_kill_while_the_file_is_made_leaves_one_that_opens(path):
    """Twelve kills around creation, each of a new file."""
    for step in range(12):
        file = path.with_name(f"{step}.journal")
        with start("t.forever", file) as process:
            time.sleep(0.05 + step * 0.02)
            process.kill()
        check(file)


def test_two_threads_may_write_at_once(record):
    """The driver writes trials while a mirror empties the outbox; nothing is lost or done twice."""
    sent = []

    def mirror():
        while len(sent) < 40:
            for pending in record.outbox_pending():
                record.mark_done(pending.key, "run")
                sent.append(pending.key)

    thread = threading.Thread(target=mirror)
    thread.start()
    for number in range(40):
        write_trial(record, number)
    thread.join(timeout=30)
    assert sent == [message(number).key for number in range(40)]
    assert record.outbox_pending() == []


def test_another_search_is_not_touched(path):
    """A journal with another fingerprint is the user's to move, and stays as it is."""
    journal.open(path, "abc").close()
    with pytest.raises(InputError, match="another search"):
        journal.open(path, "xyz")
    journal.open(path, "abc").close()


def test_other_files_are_not_touched(tmp_path):
    """Another program's database and another version's journal are refused as they are."""
    foreign = tmp_path / "mlflow.db"
    with sqlite3.connect(foreign) as sql:
        sql.execute("CREATE TABLE runs (id)")
    sql.close()
    before = foreign.read_bytes()
    with pytest.raises(InputError, match="another program"):
        journal.open(foreign, "abc")
    assert foreign.read_bytes() == before
    newer = tmp_path / "newer"
    journal.open(newer, "abc").close()
    sql = sqlite3.connect(newer)
    sql.execute("PRAGMA user_version = 99")
    sql.close()
    with pytest.raises(InputError, match="format 99"):
        journal.open(newer, "abc")


@pytest.mark.parametrize("damage", ["text", "head", "middle", "cut"])
def test_a_damaged_file_is_named_and_kept(path, damage):
    """Corruption is a ServiceError that says what to move; nothing is deleted, the lock is free."""
    with journal.open(path, "abc") as record:
        for number in range(30):
            write_trial(record, number)
    data = bytearray(path.read_bytes())
    if damage == "text":
        data = bytearray(b"this is no database at all\n" * 200)
    elif damage == "head":
        data[:100] = os.urandom(100)
    elif damage == "middle":
        data[4096 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4096)
    else:
        del data[len(data) // 3 :]
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(ServiceError, match="damaged") as caught:
            journal.open(path, "abc")
        assert "move it away" in caught.value.fix
    assert path.read_bytes() == bytes(data)


def test_a_full_disk_says_that_the_same_command_goes_on(path):
    """When SQLite finds no room the trial is not half there, and after making room it goes on."""
    with journal.open(path, "abc") as record:
        write_trial(record, 0)
        pages = record._sql.execute("PRAGMA page_count").fetchone()[0]
        record._sql.execute(f"PRAGMA max_page_count = {pages}")
        record.ask(1, {})
        token = record.lease(1, 0)
        with pytest.raises(ServiceError, match=r"search\.journal cannot be written") as caught:
            record.commit_fold(
                1, 0, token=token, state="COMPLETE", score=1.0, payload=b"x" * 1_000_000
            )
        assert "same command" in caught.value.fix
        assert record.folds(1) == []
        record._sql.execute("PRAGMA max_page_count = 1000000")
        assert record.commit_fold(1, 0, token=token, state="COMPLETE", score=1.0)


def test_a_place_that_cannot_be_written_is_a_service_error(tmp_path):
    """A file where a folder belongs is said with its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot be written"):
        journal.open(tmp_path / "file" / "journal", "abc")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ServiceError, match="cannot be written"):
        journal.open(tmp_path / "folder", "abc")


def test_a_closed_journal_says_so(record):
    """Use after close is a bug of ours, not a crash of SQLite."""
    record.close()
    with pytest.raises(SurefitError, match="closed"):
        record.trials()
