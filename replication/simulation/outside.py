"""What an event loop can be asked for that a simulation does not have: sockets, processes, signals, threads at work."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn


class SimulationError(Exception):
    """Base of what the simulated loop raises by itself."""


class NotSimulated(SimulationError):
    """A thread, a socket, a process or a signal was asked for."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: a simulation has one thread and no world outside; pass in what runs inline")


def _refused(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotSimulated(what)

    return refuse


class NoWorldOutside(asyncio.AbstractEventLoop):
    """The part of an event loop that refuses."""

    set_default_executor: Any = _refused("a thread of one's own")
    getaddrinfo: Any = _refused("a look-up of a name")
    getnameinfo: Any = _refused("a look-up of a name")
    create_connection: Any = _refused("a connection")
    create_unix_connection: Any = _refused("a connection")
    connect_accepted_socket: Any = _refused("a connection")
    start_tls: Any = _refused("a connection")
    create_server: Any = _refused("a server")
    create_unix_server: Any = _refused("a server")
    create_datagram_endpoint: Any = _refused("a socket")
    sendfile: Any = _refused("a socket")
    sock_accept: Any = _refused("a socket")
    sock_connect: Any = _refused("a socket")
    sock_recv: Any = _refused("a socket")
    sock_recv_into: Any = _refused("a socket")
    sock_recvfrom: Any = _refused("a socket")
    sock_recvfrom_into: Any = _refused("a socket")
    sock_sendall: Any = _refused("a socket")
    sock_sendfile: Any = _refused("a socket")
    sock_sendto: Any = _refused("a socket")
    add_reader: Any = _refused("a file descriptor to watch")
    remove_reader: Any = _refused("a file descriptor to watch")
    add_writer: Any = _refused("a file descriptor to watch")
    remove_writer: Any = _refused("a file descriptor to watch")
    connect_read_pipe: Any = _refused("a pipe")
    connect_write_pipe: Any = _refused("a pipe")
    subprocess_exec: Any = _refused("a process")
    subprocess_shell: Any = _refused("a process")
    add_signal_handler: Any = _refused("a signal")
    remove_signal_handler: Any = _refused("a signal")
    get_task_factory: Any = _refused("a task of another kind")
    set_task_factory: Any = _refused("a task of another kind")
    get_exception_handler: Any = _refused("another handler of errors")
    set_exception_handler: Any = _refused("another handler of errors")
