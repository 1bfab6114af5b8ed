"""The server of the ledger's tests: who starts it, what it promises, and that it never outlives them."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.services import mongodb

ROOT = Path(__file__).resolve().parents[2]
OWNER = "import sys; from tests.services.mongodb import Server; s = Server(); print(s.process.pid, s.folder, flush=True); sys.stdin.read()"


def test_a_server_ends_with_the_tests_that_are_killed():
    mongodb.server_program()
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid, folder = owner.stdout.readline().split()
    server = psutil.Process(int(pid))
    owner.kill()
    owner.communicate()
    _, alive = psutil.wait_procs([server], timeout=30)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    mongodb.shutil.rmtree(folder)


def test_a_server_keeps_its_data_and_port_over_a_kill():
    from pymongo import MongoClient

    server = mongodb.Server()
    for value in (1, 2):
        with MongoClient(server.url, serverSelectionTimeoutMS=20_000) as client:
            found = client.db.things.find_one({"_id": "a"})
            assert (found or {"value": 0})["value"] == value - 1
            client.db.things.replace_one({"_id": "a"}, {"value": value}, upsert=True)
        server.kill()
        server.start()
    server.stop()
    assert not server.folder.exists()


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("0", pytest.skip.Exception)])
def test_without_go_the_tests_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str, outcome: type[BaseException]):
    monkeypatch.setenv("BLOCKWISE_REQUIRE_SERVICES", required)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(outcome, match="neither mongod nor Go"):
        mongodb._go()


def test_go_beside_python_is_found_where_that_of_path_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for folder, version in (("old", "go1.19.8"), ("new", "go1.23.1")):
        program = tmp_path / folder / "go"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:/bin:/usr/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "new" / "python"))
    assert mongodb._go() == str(tmp_path / "new" / "go")
