"""The settings of a node: `load_config` reads them, `Config` holds them, `SETTINGS` describes each one."""

from app.config.load import load_config
from app.config.model import (
    BusConfig,
    ClusterConfig,
    Config,
    DatabaseConfig,
    DiscoveryConfig,
    DiscoveryMethod,
    HttpConfig,
    LogConfig,
    LogFormat,
    LogLevel,
    Mode,
    NodeConfig,
    ReplicationConfig,
    Synchronous,
)
from app.config.table import SETTINGS, Setting
from app.errors import ConfigError

__all__ = [
    "SETTINGS",
    "BusConfig",
    "ClusterConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "DiscoveryConfig",
    "DiscoveryMethod",
    "HttpConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "Mode",
    "NodeConfig",
    "ReplicationConfig",
    "Setting",
    "Synchronous",
    "load_config",
]
