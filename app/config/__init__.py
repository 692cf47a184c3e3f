"""The settings of a node: `load_config` reads them, `Config` holds them, `SETTINGS` describes each one."""

from app.config.load import load_config
from app.config.model import (
    BackupConfig,
    BusConfig,
    ClusterConfig,
    Config,
    DatabaseConfig,
    DiscoveryConfig,
    ForwardingConfig,
    HttpConfig,
    LeaseConfig,
    LeaseProvider,
    LogConfig,
    LogFormat,
    LogLevel,
    Mode,
    NodeConfig,
    ReplicationConfig,
)
from app.config.table import SETTINGS, Setting
from app.errors import ConfigError
from cluster.discovery import Method
from replication.opening import Synchronous

__all__ = [
    "SETTINGS",
    "BackupConfig",
    "BusConfig",
    "ClusterConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "DiscoveryConfig",
    "ForwardingConfig",
    "HttpConfig",
    "LeaseConfig",
    "LeaseProvider",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "Method",
    "Mode",
    "NodeConfig",
    "ReplicationConfig",
    "Setting",
    "Synchronous",
    "load_config",
]
