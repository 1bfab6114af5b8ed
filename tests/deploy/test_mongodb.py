"""The compose files of the MongoDB server: their form, what they open to whom, and that they hold no secret."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "mongodb"


class Loader(yaml.SafeLoader):
    """YAML as Compose reads it: `!override` marks a list that takes another's place."""


Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def read(name: str) -> dict[str, Any]:
    return yaml.load((FOLDER / name).read_text(), Loader)


@pytest.fixture(params=["compose.yaml", "tls.yaml"])
def service(request) -> dict[str, Any]:
    return read(request.param)["services"]["mongodb"]


def test_what_a_server_needs_is_there():
    compose = read("compose.yaml")
    assert {"name", "services", "secrets", "volumes"} <= set(compose)
    needed = {"image", "command", "ports", "environment", "secrets", "volumes", "restart", "stop_grace_period", "healthcheck"}
    assert needed <= set(compose["services"]["mongodb"])


def test_the_image_is_of_one_version():
    image, _, tag = read("compose.yaml")["services"]["mongodb"]["image"].partition(":")
    assert image == "mongo"
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", tag)


def test_logins_are_asked_for(service):
    assert "--auth" in service["command"]


def test_without_tls_the_port_answers_on_this_machine_only():
    plain, tls = (read(n)["services"]["mongodb"] for n in ("compose.yaml", "tls.yaml"))
    assert all(port.startswith("127.0.0.1:") for port in plain["ports"])
    assert tls["command"][tls["command"].index("--tlsMode") + 1] == "requireTLS"
    assert tls["command"][:5] == plain["command"]


def test_every_secret_is_a_file_and_none_is_in_the_project():
    compose = read("compose.yaml")
    service = compose["services"]["mongodb"]
    assert set(service["secrets"]) == set(compose["secrets"])
    assert all(name.endswith("_FILE") and value.startswith("/run/secrets/") for name, value in service["environment"].items())
    assert {value.removeprefix("/run/secrets/") for value in service["environment"].values()} <= set(compose["secrets"])
    places = {Path(secret["file"]).parts[0] for secret in compose["secrets"].values()}
    assert places == {"secrets"}
    assert {"secrets/", "tls/"} <= set((FOLDER / ".gitignore").read_text().split())


def test_data_outlives_the_container_and_what_is_mounted_is_there():
    compose = read("compose.yaml")
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["mongodb"]["volumes"])
    assert mounts["data"] == "/data/db"
    assert "data" in compose["volumes"]
    assert all((FOLDER / source).exists() for source in mounts if source.startswith("./"))
    assert mounts["./users.js"].startswith("/docker-entrypoint-initdb.d/")


def test_the_user_of_drivers_may_write_the_ledgers_and_nothing_else():
    script = (FOLDER / "users.js").read_text()
    assert re.findall(r'role: "(\w+)", db: "(\w+)"', script) == [("readWrite", "blockwise")]
    assert set(re.findall(r'read\("(\w+)"\)', script)) == {"blockwise_user", "blockwise_password"}
    if node := shutil.which("node"):
        assert subprocess.run([node, "--check", FOLDER / "users.js"], capture_output=True, timeout=60).returncode == 0


def test_the_page_about_it_names_what_there_is():
    from blockwise.ledger.server_url import FILE_VARIABLE

    page = (FOLDER / "README.md").read_text()
    assert FILE_VARIABLE in page
    assert all(name in page for name in ("compose.yaml", "tls.yaml", "secrets/", "mongodump", "mongorestore", "--rebuild"))
    script = "\n".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL))
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, timeout=60).returncode == 0


def test_the_how_to_names_logins_options_and_gaps():
    from blockwise.ledger.server_url import FILE_OPTION, FILE_VARIABLE, PASSWORD_VARIABLE, USER_VARIABLE

    page = (FOLDER.parents[1] / "docs" / "howto" / "mongodb.md").read_text()
    assert all(name in page for name in (FILE_OPTION, FILE_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE, "replicaSet", "tlsCAFile"))
    assert all(gap in page for gap in ("replica sets", "users and roles", "write concern"))
