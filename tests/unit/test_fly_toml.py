"""`fly.toml` uses keys that Fly.io documents, agrees with the image, and is explained value by value.

Nothing here reaches Fly.io. The keys below were copied by hand from its reference, "App configuration (fly.toml)",
https://fly.io/docs/reference/configuration/, as it stood in 2026; keys that this project has no use for are left out
where a section has many.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.config import load_config
from app.web.application import WebApp
from cluster.address import Address

ROOT = Path(__file__).parents[2]
FLY: dict[str, Any] = tomllib.loads((ROOT / "fly.toml").read_text())
GUIDE = (ROOT / "docs/fly.md").read_text()

# Of each section: the keys that the reference gives it. "" is the top of the file.
DOCUMENTED: dict[str, set[str]] = {
    "": {
        "app",
        "primary_region",
        "kill_signal",
        "kill_timeout",
        "console_command",
        "swap_size_mb",
        "build",
        "deploy",
        "env",
        "http_service",
        "services",
        "mounts",
        "vm",
        "restart",
        "checks",
        "processes",
        "metrics",
        "statics",
        "files",
    },
    "build": {"builder", "buildpacks", "image", "dockerfile", "ignorefile", "build-target", "args"},
    "deploy": {
        "release_command",
        "release_command_timeout",
        "release_command_vm",
        "strategy",
        "max_unavailable",
        "wait_timeout",
    },
    "http_service": {
        "processes",
        "internal_port",
        "force_https",
        "auto_stop_machines",
        "auto_start_machines",
        "min_machines_running",
        "concurrency",
        "http_options",
        "tls_options",
        "checks",
        "machine_checks",
    },
    "http_service.concurrency": {"type", "hard_limit", "soft_limit"},
    "http_service.checks": {
        "grace_period",
        "interval",
        "timeout",
        "method",
        "path",
        "protocol",
        "tls_server_name",
        "tls_skip_verify",
        "headers",
    },
    "mounts": {
        "source",
        "destination",
        "processes",
        "initial_size",
        "snapshot_retention",
        "scheduled_snapshots",
        "auto_extend_size_threshold",
        "auto_extend_size_increment",
        "auto_extend_size_limit",
    },
    "vm": {"size", "memory", "cpus", "cpu_kind", "kernel_args", "host_dedication_id", "persist_rootfs", "processes"},
    "metrics": {"port", "path", "processes"},
}
DURATION = re.compile(r"[0-9]+(ms|s|m)")


def sections(table: dict[str, Any], name: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every section of the file with its name; the tables of an array of tables have the same one."""
    found = [(name, table)]
    for key, value in table.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                found += sections(inner, f"{name}.{key}".lstrip("."))
    return found


@pytest.mark.parametrize(("name", "table"), [(n, t) for n, t in sections(FLY) if n != "env"])
def test_section_has_only_documented_keys(name: str, table: dict[str, Any]) -> None:
    assert set(table) <= DOCUMENTED[name]


@pytest.mark.parametrize(("name", "table"), sections(FLY))
def test_every_value_is_explained_in_the_guide(name: str, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if not isinstance(value, dict) and not (isinstance(value, list) and isinstance(value[0], dict)):
            where = f"[{name}] {key}" if name else key
            assert f"| `{where}` |" in GUIDE, where


def test_values_are_of_the_documented_choices() -> None:
    service = FLY["http_service"]
    assert FLY["kill_signal"] in {"SIGINT", "SIGTERM", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP"}
    assert service["auto_stop_machines"] in {"off", "stop", "suspend"}
    assert service["concurrency"]["type"] in {"connections", "requests"}
    assert FLY["deploy"]["strategy"] in {"rolling", "immediate", "canary", "bluegreen"}
    for check in service["checks"]:
        assert all(DURATION.fullmatch(check[key]) for key in ("grace_period", "interval", "timeout"))


def test_members_of_the_cluster_are_never_put_to_sleep() -> None:
    service = FLY["http_service"]
    assert service["auto_stop_machines"] == "off"
    assert service["min_machines_running"] >= 1


def test_strategy_is_one_that_machines_with_volumes_can_have() -> None:
    assert FLY["deploy"]["strategy"] in {"rolling", "immediate"}


def test_node_has_more_time_to_stop_than_it_needs() -> None:
    assert FLY["kill_signal"] == "SIGTERM"
    assert 2 < FLY["kill_timeout"] <= 300


def test_settings_start_a_node_that_listens_where_fly_looks_and_keeps_its_data_on_the_volume() -> None:
    machine = {
        "FLY_APP_NAME": FLY["app"],
        "FLY_MACHINE_ID": "683d314fdd4d68",
        "FLY_REGION": FLY["primary_region"],
        "FLY_PRIVATE_IP": "fdaa:0:1:a7b::2",
        "LITECAST_BUS__SECRET": "s" * 64,
    }
    assert not any(name.startswith("FLY_") for name in FLY["env"])
    config = load_config(None, machine | FLY["env"])
    assert config.http.bind == Address("0.0.0.0", FLY["http_service"]["internal_port"])
    assert FLY["metrics"]["port"] == config.http.bind.port
    assert config.database.path.is_relative_to(FLY["mounts"]["destination"])
    assert config.bus.bind == Address("fdaa:0:1:a7b::2", 7400)
    assert config.discovery.dns_name == f"{FLY['app']}.internal"
    assert config.node.name == "683d314fdd4d68"


def test_paths_that_fly_asks_are_paths_that_a_node_answers() -> None:
    served = (ROOT / Path(WebApp.__module__.replace(".", "/")).with_suffix(".py")).read_text()
    for path in [FLY["metrics"]["path"], *(check["path"] for check in FLY["http_service"]["checks"])]:
        assert f'Route("{path}"' in served


def test_volume_is_mounted_where_the_image_lets_its_user_write() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"VOLUME {FLY['mounts']['destination']}\n" in dockerfile
    assert FLY["build"]["dockerfile"] == "Dockerfile"


def test_the_example_with_one_writer_makes_a_node_and_a_program_that_other_nodes_reach() -> None:
    example: dict[str, Any] = tomllib.loads((ROOT / "examples/flask-accounts/fly.toml").read_text())
    assert all(set(table) <= DOCUMENTED[name] for name, table in sections(example) if name != "env")
    machine = {
        "FLY_APP_NAME": example["app"],
        "FLY_MACHINE_ID": "683d314fdd4d68",
        "FLY_REGION": "syd",
        "FLY_PRIVATE_IP": "fdaa:0:1:a7b::2",
        "PRIMARY_REGION": example["primary_region"],
        "LITECAST_BUS__SECRET": "s" * 64,
    }
    config = load_config(ROOT / "examples/flask-accounts/config.toml", machine | example["env"], own_tables=())
    assert config.http.program == Address("fdaa:0:1:a7b::2", example["http_service"]["internal_port"])
    assert config.http.bind.port == example["metrics"]["port"] != example["http_service"]["internal_port"]
    assert (config.lease.region, config.cluster.size) == (example["primary_region"], 3)
    assert config.lease.url is not None


def test_no_secret_stands_in_the_file() -> None:
    assert "SECRET" not in (ROOT / "fly.toml").read_text().upper()
