"""What stands in `config.toml`: what comes of it, and what is said of a mistake."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.config import SETTINGS, Config, LogFormat, LogLevel, Method, Mode, Synchronous, load_config
from app.errors import ConfigError
from cluster.address import Address
from replication.declared import TableDeclaration
from replication.engine.catalogue import MergeRule

ROOT = Path(__file__).parents[3]
SECRET = "0123456789abcdef0123456789abcdef"
OF_PAGES = "[replication.tables.page_counts]"
PAGES = f"{OF_PAGES}\n"


def load(folder: Path, text: str, **environ: str) -> Config:
    file = folder / "config.toml"
    file.write_text(text)
    return load_config(file, environ, host_name=lambda: "laptop.example.org")


def refusal(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environ)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder), "")


def test_a_node_beside_a_program_declares_what_the_file_says_and_no_table_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[replication.tables.page_counts]\n[replication.tables.notes]\n")
    assert load_config(None, {}, own_tables=()).replication.tables == ()
    declared = (TableDeclaration(name="page_counts"), TableDeclaration(name="notes"))
    assert load_config(file, {}, own_tables=()).replication.tables == declared  # a program's, with columns of its own


def test_without_any_setting_one_node_runs_on_a_laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {}, host_name=lambda: "laptop.example.org")
    assert config.cluster.name == "litecast"
    assert (config.node.name, config.node.region) == ("laptop", "local")
    assert config.node.data_dir == tmp_path / "data" / "laptop"
    assert config.database.path == tmp_path / "data" / "laptop" / "litecast.db"
    assert config.database.synchronous is Synchronous.FULL
    assert config.bus.bind == Address("127.0.0.1", 7400)
    assert (config.bus.advertise, config.bus.secret, config.bus.secret_file) == (None, None, None)
    assert (config.discovery.method, config.discovery.peers) == (Method.NONE, ())
    assert (config.discovery.dns_name, config.discovery.dns_port) == (None, 7400)
    assert config.discovery.poll_interval_s == 5.0
    assert config.replication.mode is Mode.NONE
    assert (config.replication.join_timeout_s, config.replication.clock_bound_s) == (2.0, 60.0)
    assert (config.replication.journal_max_age_s, config.replication.journal_max_bytes) == (7 * 24 * 3600, 2**30)
    assert config.http.bind == Address("127.0.0.1", 8080)
    assert (config.log.level, config.log.format) == (LogLevel.INFO, LogFormat.TEXT)
    assert (config.file, config.warnings) == (None, ())


def test_sample_file_of_the_repository_is_usable_as_it_stands() -> None:
    config = load_config(ROOT / "config.toml", {})
    assert config.node.name == "alpha"
    assert config.node.data_dir == ROOT / "data/alpha"
    assert config.database.path == ROOT / "data/alpha/litecast.db"
    assert config.discovery.method is Method.STATIC
    assert config.discovery.peers == (Address("127.0.0.1", 7401),)
    assert config.replication.mode is Mode.CONVERGENT
    assert config.bus.secret is not None


OWN = TableDeclaration(name="page_counts", counters=("count",), drift_ignore=("inserted_at", "updated_at"))


@pytest.mark.parametrize("mode", Mode)
def test_tables_are_declared_alike_in_every_mode(tmp_path: Path, mode: Mode) -> None:
    text = """
        [replication.tables.notes]
        [replication.tables."order lines"]
        counters = ["amount", "of these"]
        merge = "row"
        drift_ignore = ["seen_at"]
        shared_ids = true
        renamed = { title = "heading" }
    """
    replication = load(tmp_path, f"replication.mode = '{mode}'\n{text}").replication
    assert replication.mode is mode
    assert replication.tables == (
        TableDeclaration(name="notes"),
        TableDeclaration(
            name="order lines",
            counters=("amount", "of these"),
            merge=MergeRule.ROW,
            drift_ignore=("seen_at",),
            shared_ids=True,
            renamed={"title": "heading"},
        ),
        OWN,
    )


def test_the_counters_table_is_declared_and_a_section_changes_it_key_by_key(tmp_path: Path) -> None:
    def own(text: str) -> TableDeclaration:
        (found,) = load(tmp_path, text).replication.tables
        return found

    assert own("") == own(PAGES) == OWN
    assert own(f"{PAGES}drift_ignore = []") == replace(OWN, drift_ignore=())
    assert own(f"{PAGES}merge = 'row'") == replace(OWN, merge=MergeRule.ROW)
    assert own("[replication.tables.Page_Counts]\ncounters = []") == replace(OWN, name="Page_Counts", counters=())


@pytest.mark.parametrize(
    ("host", "name"),
    [("3f2a.local", "3f2a"), ("Ann's iMac", "Ann-s-iMac"), ("…", "node"), ("", "node"), ("x" * 70, "x" * 63)],
)
def test_host_name_becomes_a_node_name(host: str, name: str) -> None:
    assert load_config(None, {}, host_name=lambda: host).node.name == name


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/node.toml").write_text('[node]\ndata_dir = "../state"\n[database]\npath = "app.db"\n')
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("etc/node.toml"), {})
    monkeypatch.chdir("/")
    assert config.node.data_dir.resolve() == (tmp_path / "state").resolve()
    assert config.database.path == tmp_path / "etc" / "app.db"


def test_database_is_in_the_data_folder_unless_it_has_a_path_of_its_own(tmp_path: Path) -> None:
    config = load(tmp_path, '[node]\ndata_dir = "/srv/litecast"\n')
    assert config.database.path == Path("/srv/litecast/litecast.db")


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load(tmp_path, '\ufeff[node]\nname = "beta"\n').node.name == "beta"


def test_peers_without_a_method_are_asked(tmp_path: Path) -> None:
    config = load(tmp_path, '[discovery]\npeers = ["a:1", "tcp://[::1]:2"]\n')
    assert config.discovery.method is Method.STATIC
    assert config.discovery.peers == (Address("a", 1), Address("::1", 2))


def test_method_that_was_written_is_obeyed_whatever_the_peers(tmp_path: Path) -> None:
    assert load(tmp_path, '[discovery]\nmethod = "none"\npeers = ["a:1"]\n').discovery.method is Method.NONE


def test_dns_port_is_the_port_of_the_bus_unless_it_is_given(tmp_path: Path) -> None:
    text = '[bus]\nbind = "tcp://127.0.0.1:7555"\n[discovery]\nmethod = "dns"\ndns_name = "Node.internal"\n'
    config = load(tmp_path, text)
    assert (config.discovery.dns_name, config.discovery.dns_port) == ("node.internal", 7555)
    assert load(tmp_path, text + "dns_port = 7600\n").discovery.dns_port == 7600


def test_a_program_at_all_addresses_is_reached_at_the_host_of_the_bus(tmp_path: Path) -> None:
    text = '[bus]\nbind = "tcp://10.0.0.7:7400"\nsecret = "%s"\n[http]\nprogram = "0.0.0.0:8000"\n'
    assert load(tmp_path, text % ("s" * 32)).http.program == Address("10.0.0.7", 8000)
    elsewhere = text.replace("[http]", 'advertise = "tcp://host:7401"\n[http]')
    assert load(tmp_path, elsewhere % ("s" * 32)).http.program == Address("host", 8000)
    for program, bind in (("0.0.0.0:8000", "tcp://[::]:7400"), ("10.0.0.7:0", "tcp://10.0.0.7:7400")):
        nowhere = f'[bus]\nbind = "{bind}"\nsecret = "{"s" * 32}"\n[http]\nprogram = "{program}"\n'
        with pytest.raises(ConfigError, match="is no address at which other nodes could reach the program"):
            load(tmp_path, nowhere)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replication = {mode = 'naive', ack = 'one'}", "[replication] ack = 'one' needs [replication] mode = "),
        ("replication = {mode = 'convergent', ack = 'quorum'}", "'quorum' needs [cluster] size"),
        ("replication = {mode = 'convergent', ack = 'bucket'}", "[replication] ack = 'bucket' needs [backup] url"),
        ("replication.unreplicated_max_s = 2", "[replication] unreplicated_max_s = 2 is less than 3"),
        ("replication = {mode = 'primary', unreplicated_max_s = 9}", "needs [cluster] size of 2 or more"),
    ],
)
def test_what_no_node_could_keep_of_how_sure_a_write_is_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_dns_without_a_name_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, '[discovery]\nmethod = "dns"\n')
    assert message == "/config.toml: [discovery] method = 'dns' needs [discovery] dns_name, which lists the nodes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[bus]\nbnid = "x"', "[bus] has no key 'bnid'; the nearest known key is [bus] bind"),
        ('[bus]\nsecretfile = "x"', "[bus] has no key 'secretfile'; the nearest known key is [bus] secret_file"),
        ('[node]\nbind = "x"', "[node] has no key 'bind'; the nearest known key is [bus] bind"),
        ("[discovery]\npoll_interval = 1", "[discovery] has no key 'poll_interval'; the nearest known key is [disc"),
        ("[log]\nzzzzz = 1", "[log] has no key 'zzzzz'; the nearest known key is [log] "),
        ('[database]\n"" = 1', "[database] has no key ''; the nearest known key is [database] "),
        ('[nodes]\nname = "x"', "no section is named 'nodes'; the nearest known key is [node] name"),
        ("[replicaton]", "no section is named 'replicaton'; the nearest known key is in [replication]"),
        ('["a\\nb"]\nc = 1', "no section is named 'a\\nb'; the nearest known key is "),
        ('data_dir = "x"', "'data_dir' stands outside of any section; the nearest known key is [node] data_dir"),
        ("[replication]\nmerge = 'row'", "[replication] has no key 'merge'; the nearest known key is [replication.tab"),
        (
            "[replication.pages]\nx = 1",
            "[replication] has no key 'pages'; the nearest known key is [replication.tables.",
        ),
        (f"{PAGES}counter = []", f"{OF_PAGES} has no key 'counter'; the nearest known key is {OF_PAGES} counters"),
        (f"{PAGES}mode = 'none'", f"{OF_PAGES} has no key 'mode'; the nearest known key is [replication] mode"),
        (
            "[replication.tables.a.b]",
            "[replication.tables.a] has no key 'b'; the nearest known key is [replication.tab",
        ),
        (
            "[replication]\ntables = 1",
            "replication.tables is a section, and is given as a value: write [replication.ta",
        ),
        ("[replication.tables]\na = 1", "replication.tables.a is a section, and is given as a value: write [replicati"),
        ('["replication.tables.a"]', "no section is named 'replication.tables.a'; the nearest known key is "),
        (
            '[replication.tables.""]',
            '[replication.tables.""] cannot be the name of a table: write [replication.tables.N',
        ),
        ('[replication.tables."\\u0000"]', '[replication.tables."\\u0000"] cannot be the name of a table: write [repl'),
        (
            "[replication.tables.Notes]\n[replication.tables.notes]",
            "[replication.tables.Notes] and [replication.tables.notes] are one table, since SQLite tells no capitals",
        ),
        ('bus = "x"', "bus is a section, and is given as a value: write [bus] and its keys below it"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text).startswith(f"/config.toml: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[node]\nname = 7", "[node] name = 7 is a number, and text in quotes is needed"),
        ("[node]\nname = true", "[node] name = True is a boolean, and text in quotes is needed"),
        ("[node]\nname = 2026-01-31", "[node] name = datetime.date(2026, 1, 31) is a date or time, and text in"),
        ('[node]\nname = ""', "[node] name = '' is not a name"),
        ('[node]\nname = ".."', "[node] name = '..' is not a name"),
        ('[node]\nname = "a/b"', "[node] name = 'a/b' is not a name"),
        ('[node]\nname = "é"', "[node] name = 'é' is not a name"),
        (f'[node]\nname = "{"x" * 64}"', "[node] name = 'xxx"),
        ('[node]\ndata_dir = ""', "[node] data_dir = '' is not a path"),
        ('[node]\ndata_dir = "a\\u0000"', "[node] data_dir = 'a\\x00' is not a path"),
        ('[bus]\nbind = "7400"', "[bus] bind is wrong: '7400' is not an address"),
        ('[discovery]\npeers = "a:1"', "[discovery] peers = 'a:1' is text, and a list of addresses is needed: ['HOST"),
        ('[discovery]\npeers = ["a"]', "[discovery] peers is wrong: 'a' is not an address"),
        ("[discovery]\npeers = [1]", "[discovery] peers = 1 is a number, and text in quotes is needed"),
        ('[discovery]\nmethod = "dsn"', "[discovery] method = 'dsn' is not one of none | static | dns | zeroconf"),
        ('[discovery]\ndns_name = "a:1"', "[discovery] dns_name = 'a:1' is not a DNS name"),
        ('[discovery]\ndns_name = "10.0.0.1"', "[discovery] dns_name = '10.0.0.1' is not a DNS name"),
        ("[discovery]\ndns_port = 0", "[discovery] dns_port = 0 is not a port"),
        ("[discovery]\ndns_port = 65536", "[discovery] dns_port = 65536 is not a port"),
        ("[discovery]\ndns_port = true", "[discovery] dns_port = True is not a port"),
        ("[discovery]\npoll_interval_s = 0", "[discovery] poll_interval_s = 0 is not a number of seconds"),
        ("[discovery]\npoll_interval_s = nan", "[discovery] poll_interval_s = nan is not a number of seconds"),
        ('[replication]\nmode = "converge"', "[replication] mode = 'converge' is not one of none | naive | convergent"),
        ("[replication]\nclock_bound_s = 86401", "[replication] clock_bound_s = 86401 is not a number of seconds"),
        ("[replication]\njournal_max_age_s = inf", "[replication] journal_max_age_s = inf is not a number of seconds"),
        ("[replication]\njournal_max_bytes = 1e9", "[replication] journal_max_bytes = 1000000000.0 is not a number of"),
        ("[replication]\njournal_max_bytes = true", "[replication] journal_max_bytes = True is not a number of bytes"),
        ("[replication]\njournal_max_bytes = 0", "[replication] journal_max_bytes = 0 is not a number of bytes"),
        (f"{PAGES}counters = 'count'", f"{OF_PAGES} counters = 'count' is text, and a list of columns is needed: ["),
        (f"{PAGES}counters = [1]", f"{OF_PAGES} counters = 1 is a number, and text in quotes is needed"),
        (f"{PAGES}drift_ignore = ['']", f"{OF_PAGES} drift_ignore = '' is not the name of a column"),
        (f"{PAGES}merge = 'rows'", f"{OF_PAGES} merge = 'rows' is not one of cell | row"),
        (f"{PAGES}renamed = 'a'", f"{OF_PAGES} renamed = 'a' is text, and old and new names are needed: {{OLD"),
        (f"{PAGES}renamed = {{ a = '' }}", f"{OF_PAGES} renamed = '' is not the name of a column"),
        (f"{PAGES}renamed = {{ a = 'c', b = 'c' }}", f"{OF_PAGES} renamed names 'c' as the new name of two columns"),
        (
            f"{PAGES}renamed = {{ a = 'b', b = 'a' }}",
            f"{OF_PAGES} renamed goes round in a circle: 'a' becomes",
        ),
        (f"{PAGES}shared_ids = 'true'", f"{OF_PAGES} shared_ids = 'true' is text, and true or false is needed, with"),
        ('[replication.tables."a\\nb"]\nmerge = 1', '[replication.tables."a\\nb"] merge = 1 is a number, and'),
        ('[log]\nlevel = "INFO"', "[log] level = 'INFO' is not one of debug | info | warning | error"),
    ],
)
def test_value_of_the_wrong_kind_is_refused_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text).startswith(f"/config.toml: {message}")


def test_every_key_refuses_a_table_and_names_itself(tmp_path: Path) -> None:
    for setting in SETTINGS:
        message = refusal(tmp_path, f"[{setting.section}]\n{setting.key} = {{a = 1}}")
        assert message.startswith(f"/config.toml: {setting} "), setting


def test_mistake_in_the_file_is_told_although_a_variable_overrides_it(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[discovery]\ndns_port = 0", LITECAST_DISCOVERY__DNS_PORT="7401")
    assert "config.toml: [discovery] dns_port = 0 is not a port" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[node\nname = 1", "is not TOML: "),
        (b'[node]\nname = "a"\nname = "b"', "is not TOML: Cannot overwrite a value (at "),
        (
            b"[node]\nname = alpha",
            "is not TOML: Invalid value (at line 2, column 8); the value of a text stands in quotes",
        ),
        (b'[node]\n# caf\xe9\nname = "a"', "is not UTF-8 (line 2); save it as UTF-8"),
        ("[node]".encode("utf-16"), "is not UTF-8 (line 1); save it as UTF-8"),
        (b"a = " + b"[" * 5000, "is not a configuration file: its values are nested too deeply"),
        (b"a = " + b"1" * 5000, "is not TOML: "),
    ],
)
def test_file_that_is_not_toml_in_utf8_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_file_that_is_missing_or_a_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: there is no such file; name the .* with --config FILE$"):
        load_config(tmp_path / "nowhere.toml", {})
    with pytest.raises(ConfigError, match=r"is a folder; name the configuration file in it with --config FILE$"):
        load_config(tmp_path, {})
    with pytest.raises(ConfigError, match=r"config.toml/x: cannot be read: Not a directory$"):
        load_config(ROOT / "config.toml" / "x", {})


def test_times_of_a_backup_that_make_no_sense_together_are_refused(tmp_path: Path) -> None:
    text = "replication.mode = 'convergent'\n[backup]\nurl = 'file:///srv/backup'\ninterval_s = 60\n"
    assert load(tmp_path, text).backup.snapshot_interval_s == 3600.0
    assert "[backup] retention_s = 60 is shorter than" in refusal(tmp_path, f"{text}retention_s = 60")
    assert "[backup] snapshot_interval_s = 30 is shorter than" in refusal(tmp_path, f"{text}snapshot_interval_s = 30")
