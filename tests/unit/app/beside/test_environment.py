"""What the program beside a node is told."""

from pathlib import Path

from app.beside.environment import environment_of_program
from app.config import load_config
from app.node_client import url_of

SECRET = "a secret of some length, that is long enough"


def told(**environ: str) -> dict[str, str]:
    return environment_of_program(
        environ, database=Path("/data/shop.db"), name="alpha", region="ams", url="http://127.0.0.1:8081"
    )


def test_it_keeps_its_environment_and_is_told_where_the_database_lies() -> None:
    environment = told(PATH="/bin", PORT="8000", DATABASE_PATH="elsewhere.db")
    assert environment["DATABASE_PATH"] == "/data/shop.db"
    assert environment["PATH"] == "/bin"
    assert environment["PORT"] == "8000"


def test_it_is_told_neither_the_secret_nor_where_it_lies() -> None:
    environment = told(LITECAST_BUS__SECRET=SECRET, LITECAST_BUS__SECRET_FILE="/run/secret")
    assert not {name for name in environment if "SECRET" in name}
    assert SECRET not in environment.values()


def test_with_its_variables_litecast_status_asks_this_node(tmp_path: Path) -> None:
    environment = told(LITECAST_HTTP__BIND="0.0.0.0:8081", LITECAST_NODE__SLOTS_DIR="/slots")
    config = load_config(None, environment)
    assert url_of(config.http.bind) == "http://127.0.0.1:8081"
    assert (config.node.name, config.node.region) == ("alpha", "ams")
    assert config.database.path == Path("/data/shop.db")
