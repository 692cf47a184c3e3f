# One image for every part: a node (`node`, the default), the entry in front of nodes (`dev-proxy`), `status`, `keygen`.
# It builds from python:3.13-slim alone, with any builder: docker build --tag litecast .
# With Litestream around a node: see docs/litestream.md.
# Behind a network that only the host sees: docker build --network host --tag litecast .

# --- build: a virtual environment with exactly what uv.lock names, each file checked against its hash ---
FROM python:3.13-slim AS build
LABEL litecast.stage=build

# The system's certificates, as pip uses them: a network with a certificate authority of its own needs no more than that.
ENV UV_NATIVE_TLS=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PYTHON=python3 \
    UV_PROJECT_ENVIRONMENT=/opt/litecast \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir "uv>=0.5,<1"

# What changes seldom comes first: as long as the lock file stays, only the last layer is built anew.
WORKDIR /src
COPY pyproject.toml uv.lock ./
RUN /opt/uv/bin/uv sync --quiet --frozen --no-default-groups --all-extras --no-install-project --compile-bytecode

COPY . ./
RUN /opt/uv/bin/uv sync --quiet --frozen --no-default-groups --all-extras --no-editable --compile-bytecode

# --- the image itself: the same Python, the environment made for it, and a user who owns nothing but /data ---
FROM python:3.13-slim AS node

LABEL org.opencontainers.image.title="litecast" \
      org.opencontainers.image.description="Peer-replicated SQLite for Python: every node holds the whole database as an ordinary file." \
      org.opencontainers.image.licenses="MIT"

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin litecast \
    && install --directory --owner=litecast --group=litecast --mode=0700 /data

COPY --from=build /opt/litecast /opt/litecast

# Bytecode is there already and /opt is not writable; a log line must not wait in a buffer for the next; and at loopback,
# the default, nobody outside of the container would reach the web application.
ENV PATH=/opt/litecast/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LITECAST_HTTP__BIND=0.0.0.0:8080

# Without settings, a node's folder is data/<its name> from here: on the volume.
WORKDIR /
VOLUME /data
USER litecast
EXPOSE 8080 7400

# 0 once the node is ready: database, replication and bus are up. Needs neither curl nor a shell.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["litecast", "status"]

# The node is PID 1, takes SIGTERM and SIGINT itself, and starts no processes that would have to be reaped.
ENTRYPOINT ["litecast"]
CMD ["node"]

# --- the same with Litestream around the node: docker build --target litestream, with its binary beside this file ---
FROM node AS litestream
LABEL litecast.stage=litestream

COPY litestream.yml /etc/litestream.yml
# The pattern matches nothing where there is no binary: old builders come through here on their way to the last stage.
COPY scripts/litestream-node litestrea[m] /usr/local/bin/

ENTRYPOINT ["litestream-node"]
CMD ["node"]

# --- what is built without --target ---
FROM node
