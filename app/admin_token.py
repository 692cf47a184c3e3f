"""The admin token of a cluster, as the settings of any of its nodes give it."""

from app.config import Config
from cluster.security import derive_admin_token


def admin_token(config: Config) -> str | None:
    """What whoever changes something has to show; None without a secret."""
    secret = config.bus.secret
    return None if secret is None else derive_admin_token(secret, config.cluster.name)
