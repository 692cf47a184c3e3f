"""The nodes' files are what `litecast node` accepts, and nothing secret is where others can read it."""

import socket
from pathlib import Path

from app.config import Mode, load_config
from app.demo.config_files import HOST, SECRET_FILE, NodeFiles, config_text, free_ports, lay_out, write_configs
from app.demo.plan import PlannedNode

NODES = [PlannedNode(name="alpha", region="ams"), PlannedNode(name="beta", region="iad")]


def test_a_node_starts_with_what_is_written_for_it(tmp_path: Path) -> None:
    alpha, beta = lay_out(tmp_path, NODES)
    write_configs([alpha, beta], "naive")
    config = load_config(alpha.config_file, {})
    assert (config.node.name, config.node.region, config.replication.mode) == ("alpha", "ams", Mode.NAIVE)
    assert config.database.path == alpha.database
    assert [address.port for address in config.discovery.peers] == [beta.bus_port]
    assert config.http.bind.port == alpha.http_port
    assert config.bus.secret is not None
    assert config.warnings == ()


def test_the_secret_is_fresh_is_in_one_file_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    secrets = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        nodes = lay_out(folder, NODES)
        write_configs(nodes, "none")
        secret = folder / SECRET_FILE
        assert secret.stat().st_mode & 0o777 == 0o600
        secrets.append(secret.read_text().strip())
        assert all(secrets[-1] not in node.config_file.read_text() for node in nodes)
    assert secrets[0] != secrets[1]


def test_nodes_keep_folder_and_secret_when_they_are_laid_out_again(tmp_path: Path) -> None:
    before = lay_out(tmp_path, NODES)
    secret = (tmp_path / SECRET_FILE).read_text()
    after = lay_out(tmp_path, NODES)
    assert [node.folder for node in after] == [node.folder for node in before]
    assert (tmp_path / SECRET_FILE).read_text() == secret


def test_a_node_is_not_its_own_peer() -> None:
    node = NodeFiles(name="alpha", region="ams", folder=Path("/nowhere"), bus_port=11111, http_port=11112)
    assert "peers = []" in config_text(node, [node], "none")


def test_ports_are_free_and_no_two_are_the_same() -> None:
    ports = free_ports(18)
    assert len(set(ports)) == 18
    for port in ports:
        with socket.socket() as listener:
            listener.bind((HOST, port))
