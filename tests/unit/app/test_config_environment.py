"""What the environment says: overrides, Fly.io's variables, and which of several wins."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import SETTINGS, Config, LeaseProvider, LogFormat, LogLevel, Method, Mode, Synchronous, load_config
from app.errors import ConfigError
from cluster.address import Address
from replication.acknowledging.levels import Ack
from replication.declared import TableDeclaration
from replication.engine.catalogue import MergeRule

TABLES = "LITECAST_REPLICATION__TABLES__"
FLY = {
    "FLY_APP_NAME": "shop",
    "FLY_MACHINE_ID": "683d314fdd4d68",
    "FLY_REGION": "ams",
    "FLY_PRIVATE_IP": "fdaa:0:1::3",
}


def declared(config: Config, table: str) -> TableDeclaration:
    (found,) = [one for one in config.replication.tables if one.name == table]
    return found


# Of each key: a text for its variable, and what must come of it.
OVERRIDES: dict[str, tuple[str, Callable[[Config], object], object]] = {
    "LITECAST_CLUSTER__NAME": ("other", lambda c: c.cluster.name, "other"),
    "LITECAST_CLUSTER__SIZE": ("5", lambda c: c.cluster.size, 5),
    "LITECAST_NODE__NAME": ("beta", lambda c: c.node.name, "beta"),
    "LITECAST_NODE__REGION": ("fra", lambda c: c.node.region, "fra"),
    "LITECAST_NODE__DATA_DIR": ("/srv/beta", lambda c: c.node.data_dir, Path("/srv/beta")),
    "LITECAST_NODE__SLOTS_DIR": ("/srv/nodes", lambda c: c.node.slots_dir, Path("/srv/nodes")),
    "LITECAST_DATABASE__PATH": ("/srv/app.db", lambda c: c.database.path, Path("/srv/app.db")),
    "LITECAST_DATABASE__SYNCHRONOUS": ("normal", lambda c: c.database.synchronous, Synchronous.NORMAL),
    "LITECAST_BUS__BIND": ("tcp://[::]:7500", lambda c: c.bus.bind, Address("::", 7500)),
    "LITECAST_BUS__ADVERTISE": ("10.0.0.7:7500", lambda c: c.bus.advertise, Address("10.0.0.7", 7500)),
    "LITECAST_BUS__SECRET": ("s" * 32, lambda c: c.bus.secret and c.bus.secret.reveal(), "s" * 32),
    "LITECAST_BUS__SECRET_FILE": ("other.secret", lambda c: c.bus.secret and c.bus.secret.reveal(), "f" * 40),
    "LITECAST_DISCOVERY__METHOD": ("zeroconf", lambda c: c.discovery.method, Method.ZEROCONF),
    "LITECAST_DISCOVERY__PEERS": (
        "a:1, tcp://b:2,",
        lambda c: c.discovery.peers,
        (Address("a", 1), Address("b", 2)),
    ),
    "LITECAST_DISCOVERY__DNS_NAME": ("node.internal", lambda c: c.discovery.dns_name, "node.internal"),
    "LITECAST_DISCOVERY__DNS_PORT": ("7401", lambda c: c.discovery.dns_port, 7401),
    "LITECAST_DISCOVERY__POLL_INTERVAL_S": ("0.25", lambda c: c.discovery.poll_interval_s, 0.25),
    "LITECAST_REPLICATION__MODE": ("none", lambda c: c.replication.mode, Mode.NONE),
    "LITECAST_REPLICATION__JOIN_TIMEOUT_S": ("0.5", lambda c: c.replication.join_timeout_s, 0.5),
    "LITECAST_REPLICATION__CLOCK_BOUND_S": ("5", lambda c: c.replication.clock_bound_s, 5.0),
    "LITECAST_REPLICATION__JOURNAL_MAX_AGE_S": ("90000", lambda c: c.replication.journal_max_age_s, 90_000.0),
    "LITECAST_REPLICATION__JOURNAL_MAX_BYTES": ("4096", lambda c: c.replication.journal_max_bytes, 4096),
    "LITECAST_REPLICATION__ACK": ("one", lambda c: c.replication.ack, Ack.ONE),
    "LITECAST_REPLICATION__ACK_TIMEOUT_S": ("2.5", lambda c: c.replication.ack_timeout_s, 2.5),
    "LITECAST_REPLICATION__UNREPLICATED_MAX_S": ("30", lambda c: c.replication.unreplicated_max_s, 30.0),
    "LITECAST_REPLICATION__TABLES__NAME__COUNTERS": ("a, b,", lambda c: declared(c, "name").counters, ("a", "b")),
    "LITECAST_REPLICATION__TABLES__NAME__MERGE": ("row", lambda c: declared(c, "name").merge, MergeRule.ROW),
    "LITECAST_REPLICATION__TABLES__NAME__SHARED_IDS": ("TRUE", lambda c: declared(c, "name").shared_ids, True),
    "LITECAST_REPLICATION__TABLES__NAME__DRIFT_IGNORE": ("t", lambda c: declared(c, "name").drift_ignore, ("t",)),
    "LITECAST_REPLICATION__TABLES__NAME__RENAMED": (
        "a=b, c = d",
        lambda c: declared(c, "name").renamed,
        {"a": "b", "c": "d"},
    ),
    "LITECAST_LEASE__PROVIDER": ("static", lambda c: c.lease.provider, LeaseProvider.STATIC),
    "LITECAST_LEASE__PRIMARY": ("beta", lambda c: c.lease.primary, "beta"),
    "LITECAST_LEASE__REGION": ("fra", lambda c: c.lease.region, "fra"),
    "LITECAST_LEASE__CANDIDATE": ("true", lambda c: c.lease.candidate, True),
    "LITECAST_LEASE__TTL_S": ("3", lambda c: c.lease.ttl_s, 3.0),
    "LITECAST_LEASE__URL": ("s3://other/place", lambda c: c.lease.url, "s3://other/place"),
    "LITECAST_FORWARDING__HOLD_S": ("1", lambda c: c.forwarding.hold_s, 1.0),
    "LITECAST_FORWARDING__CALL_S": ("2", lambda c: c.forwarding.call_s, 2.0),
    "LITECAST_FORWARDING__VISIBLE_S": ("3", lambda c: c.forwarding.visible_s, 3.0),
    "LITECAST_BACKUP__URL": ("s3://other/backup", lambda c: c.backup.url, "s3://other/backup"),
    "LITECAST_BACKUP__INTERVAL_S": ("4", lambda c: c.backup.interval_s, 4.0),
    "LITECAST_BACKUP__SNAPSHOT_INTERVAL_S": ("86400", lambda c: c.backup.snapshot_interval_s, 86_400.0),
    "LITECAST_BACKUP__RETENTION_S": ("172800", lambda c: c.backup.retention_s, 172_800.0),
    "LITECAST_BACKUP__ENCRYPT": ("true", lambda c: c.backup.encrypt, True),
    "LITECAST_BACKUP__OLD_SECRET": ("o" * 32, lambda c: c.backup.old_secret and c.backup.old_secret.reveal(), "o" * 32),
    "LITECAST_BACKUP__OLD_SECRET_FILE": (
        "other.secret",
        lambda c: c.backup.old_secret and c.backup.old_secret.reveal(),
        "f" * 40,
    ),
    "LITECAST_HTTP__BIND": ("0.0.0.0:80", lambda c: c.http.bind, Address("0.0.0.0", 80)),
    "LITECAST_HTTP__PROGRAM": ("10.0.0.7:8000", lambda c: c.http.program, Address("10.0.0.7", 8000)),
    "LITECAST_LOG__LEVEL": ("debug", lambda c: c.log.level, LogLevel.DEBUG),
    "LITECAST_LOG__FORMAT": ("json", lambda c: c.log.format, LogFormat.JSON),
}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A file that says something of every section, in a folder with a secret beside it."""
    (tmp_path / "other.secret").write_text("f" * 40 + "\n")
    (tmp_path / "other.secret").chmod(0o600)
    file = tmp_path / "config.toml"
    file.write_text("""
        cluster.name = "filed"
        node = {name = "alpha", region = "lhr", data_dir = "alpha"}
        database.path = "alpha.db"
        bus = {bind = "127.0.0.1:7400", secret = "a secret of the file, of enough characters"}
        discovery = {method = "static", peers = ["127.0.0.1:7401"]}
        replication = {mode = "convergent", tables.name = {counters = ["n"]}}
        lease = {provider = "object_store", primary = "alpha", region = "lhr", candidate = false, url = "file:///lease"}
        http.bind = "127.0.0.1:8080"
        log = {level = "warning", format = "text"}
    """)
    return file


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_key_has_a_variable_that_is_tried_here() -> None:
    assert {setting.env for setting in SETTINGS} == set(OVERRIDES)


@pytest.mark.parametrize("variable", OVERRIDES)
def test_variable_overrides_its_key_of_the_file(sample: Path, variable: str) -> None:
    text, of, expected = OVERRIDES[variable]
    assert of(load_config(sample, {})) != expected
    assert of(load_config(sample, {variable: text})) == expected


def test_empty_variable_counts_as_not_set_but_empties_a_list(sample: Path) -> None:
    config = load_config(
        sample, {"LITECAST_NODE__NAME": "", "LITECAST_BUS__SECRET": "", "LITECAST_DISCOVERY__PEERS": ""}
    )
    assert config.node.name == "alpha"
    assert config.bus.secret is not None
    assert config.discovery.peers == ()
    variables = {"LITECAST_REPLICATION__TABLES__NAME__COUNTERS": "", "LITECAST_REPLICATION__TABLES__OTHER__MERGE": ""}
    config = load_config(sample, variables)
    assert declared(config, "name").counters == ()
    assert [one.name for one in config.replication.tables] == ["name", "page_counts"]


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("LITECAST_NODE__NMAE", "LITECAST_NODE__NAME"),
        ("LITECAST_BUS__BIND_ADDRESS", "LITECAST_BUS__BIND"),
        ("LITECAST_NODE_DATA_DIR", "LITECAST_NODE__DATA_DIR"),
        ("LITECAST_NODE__DATA__DIR", "LITECAST_NODE__DATA_DIR"),
        (f"{TABLES}PAGE_COUNTS__COUNTRES", f"{TABLES}PAGE_COUNTS__COUNTERS"),
        (f"{TABLES}PAGE_COUNTS_MERGE", f"{TABLES}PAGE_COUNTS__MERGE"),
        (f"{TABLES}COUNTERS", f"{TABLES}NAME__COUNTERS"),
        (f"{TABLES}__COUNTERS", f"{TABLES}NAME__COUNTERS"),
        (f"{TABLES}notes__COUNTERS", f"{TABLES}NAME__COUNTERS"),
        (f"{TABLES}MY NAME__COUNTERS", f"{TABLES}NAME__COUNTERS"),
        ("LITECAST_REPLICATION_TABLES_PAGE_COUNTS_COUNTERS", f"{TABLES}PAGE_COUNTS__COUNTERS"),
    ],
)
def test_variable_that_names_no_setting_is_refused_with_the_nearest(variable: str, nearest: str) -> None:
    assert (
        refusal({variable: "x"})
        == f"environment variable {variable} names no setting; the nearest known one is {nearest}"
    )


def test_variables_that_are_no_settings_are_left_alone() -> None:
    load_config(None, {"LITECAST_TEST_BIN": "/opt", "LITECAST_CONFIG": "x", "litecast_node__name": "x", "PATH": "/bin"})


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("LITECAST_DISCOVERY__DNS_PORT", "many", "= 'many' is not a port"),
        ("LITECAST_DISCOVERY__DNS_PORT", "7.5", "= 7.5 is not a port"),
        ("LITECAST_DISCOVERY__POLL_INTERVAL_S", "inf", "= inf is not a number of seconds"),
        ("LITECAST_DISCOVERY__PEERS", "a:1,b", "is wrong: 'b' is not an address"),
        ("LITECAST_HTTP__BIND", "localhost", "is wrong: 'localhost' is not an address"),
        ("LITECAST_NODE__NAME", "a b", "= 'a b' is not a name"),
        ("LITECAST_NODE__NAME", "a\nb", "= 'a\\nb' is not a name"),
        ("LITECAST_NODE__NAME", "\udcff", "= '\\udcff' is not a name"),
        ("LITECAST_BUS__SECRET", "\udcff" * 40, "is not UTF-8; `litecast keygen`"),
        ("LITECAST_LOG__FORMAT", "xml", "= 'xml' is not one of text | json"),
        ("LITECAST_REPLICATION__JOURNAL_MAX_BYTES", "1 GiB", "= '1 GiB' is not a number of bytes: a whole number"),
        (f"{TABLES}NOTES__SHARED_IDS", "yes", "= 'yes' is text, and true or false is needed"),
        (f"{TABLES}NOTES__COUNTERS", "\udcff", "= '\\udcff' is not the name of a column"),
    ],
)
def test_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, text: str, message: str) -> None:
    assert refusal({variable: text}).startswith(f"environment variable {variable} {message}")


def test_fly_fills_name_region_cluster_discovery_and_addresses() -> None:
    config = load_config(None, FLY)
    assert config.node.name == "683d314fdd4d68"
    assert config.node.region == "ams"
    assert config.cluster.name == "shop"
    assert (config.discovery.method, config.discovery.dns_name) == (Method.DNS, "shop.internal")
    assert config.discovery.dns_port == 7400
    assert str(config.bus.bind) == "tcp://[fdaa:0:1::3]:7400"
    assert config.http.bind == Address("0.0.0.0", 8080)


def test_file_is_stronger_than_fly_and_a_variable_stronger_than_both(sample: Path) -> None:
    config = load_config(sample, FLY | {"LITECAST_NODE__REGION": "nrt"})
    assert (config.node.name, config.cluster.name) == ("alpha", "filed")
    assert config.discovery.method is Method.STATIC
    assert config.bus.bind == Address("127.0.0.1", 7400)
    assert config.node.region == "nrt"


def test_peers_that_a_person_named_are_asked_also_on_fly() -> None:
    config = load_config(None, FLY | {"LITECAST_DISCOVERY__PEERS": "a:1"})
    assert config.discovery.method is Method.STATIC


def test_region_is_that_of_fly_else_my_region_else_local() -> None:
    assert load_config(None, {}).node.region == "local"
    assert load_config(None, {"MY_REGION": "lhr"}).node.region == "lhr"
    assert load_config(None, {"MY_REGION": "lhr", "FLY_REGION": "ams"}).node.region == "ams"


def test_private_address_of_fly_that_is_none_is_refused_by_its_name() -> None:
    assert refusal({"FLY_PRIVATE_IP": "nowhere"}).startswith(
        "environment variable FLY_PRIVATE_IP = 'nowhere' is not an IP"
    )
    assert str(load_config(None, {"FLY_PRIVATE_IP": "10.1.2.3"}).bus.bind) == "tcp://10.1.2.3:7400"


def test_database_path_is_stronger_than_the_file_and_weaker_than_the_variable(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sample.parent / "work").mkdir()
    monkeypatch.chdir(sample.parent / "work")
    assert load_config(sample, {}).database.path == sample.parent / "alpha.db"
    assert load_config(sample, {"DATABASE_PATH": ""}).database.path == sample.parent / "alpha.db"
    assert load_config(sample, {"DATABASE_PATH": "/srv/a.db"}).database.path == Path("/srv/a.db")
    assert load_config(sample, {"DATABASE_PATH": "a.db"}).database.path == sample.parent / "work" / "a.db"
    both = {"DATABASE_PATH": "/srv/a.db", "LITECAST_DATABASE__PATH": "/srv/b.db"}
    assert load_config(sample, both).database.path == Path("/srv/b.db")


def test_a_variable_finds_the_table_that_the_file_names(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("""
        [replication.tables.Notes]
        [replication.tables."order lines"]
        merge = "row"
        [replication.tables.Page_Counts]
    """)
    variables = {
        f"{TABLES}NOTES__MERGE": "row",
        f"{TABLES}ORDER_LINES__COUNTERS": "n",
        f"{TABLES}PAGE_COUNTS__DRIFT_IGNORE": "",
        f"{TABLES}A__B___SHARED_IDS": "true",
    }
    assert load_config(file, variables).replication.tables == (
        TableDeclaration(name="Notes", merge=MergeRule.ROW),
        TableDeclaration(name="order lines", counters=("n",), merge=MergeRule.ROW),
        TableDeclaration(name="Page_Counts", counters=("count",)),
        TableDeclaration(name="a__b_", shared_ids=True),
    )


def test_a_variable_that_fits_two_tables_of_the_file_is_for_the_one_it_spells_or_for_none(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('replication.tables = {"a b" = {}, "a-b" = {}, A_B = {}}')
    variables = {f"{TABLES}A_B__COUNTERS": "n"}
    assert declared(load_config(file, variables), "A_B").counters == ("n",)
    file.write_text('replication.tables = {"a b" = {}, "a-b" = {}}')
    with pytest.raises(ConfigError) as caught:
        load_config(file, variables)
    assert str(caught.value) == (
        f'environment variable {TABLES}A_B__COUNTERS could be for [replication.tables."a b"] or '
        "[replication.tables.a-b]: set it in the file, in one of them"
    )
