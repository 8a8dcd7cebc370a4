"""Redis URLs: the clients that they name."""

from collections.abc import Callable
from typing import Any, cast

from aiosessions._errors import ConfigError
from aiosessions.storers._redis_driver import Client, ClusterNode, Redis, RedisCluster, Sentinel
from aiosessions.storers.url import StorerURL, at_least, flag

__all__ = ["clients_from_url"]


def _protocol(text: str) -> int:
    if text not in ("2", "3"):
        raise ConfigError("give 2 or 3")
    return int(text)


_OPTIONS: dict[str, Callable[[str], object]] = {
    "client_name": str,
    "health_check_interval": at_least(0.0),
    "max_connections": at_least(1),
    "protocol": _protocol,
    "socket_connect_timeout": at_least(0.0),
    "socket_keepalive": flag,
    "socket_timeout": at_least(0.0),
    "ssl_ca_certs": str,
    "ssl_cert_reqs": str,
    "ssl_certfile": str,
    "ssl_check_hostname": flag,
    "ssl_keyfile": str,
}


def clients_from_url(url: StorerURL) -> Callable[[], Client]:
    """What makes clients, not yet connected, for the address and the driver's options of *url*.

    Raises:
        ConfigError: an address or an option that cannot be.
    """
    options = {name: url.option(name, convert, None) for name, convert in _OPTIONS.items()}
    options |= {"username": url.user or None, "password": url.password or None}
    options = {name: value for name, value in options.items() if value is not None}
    if url.scheme.endswith("+sentinel"):
        return _watched(url, options)

    is_cluster = url.option("cluster", flag, default=False)
    path = url.path.strip("/")
    socket = url.path if path and not url.hosts and not path.isdecimal() else ""
    if url.hosts and url.hosts[0][0].startswith("/"):
        socket = url.hosts[0][0]
    one = cast("Callable[..., Client]", Redis)
    if socket and not url.hosts[1:] and not is_cluster:
        options["db"] = _database(url, "" if socket == url.path else path)
        return lambda: one(unix_socket_path=socket, **options)

    db = _database(url, path)
    nodes = [(host, port or 6379) for host, port in url.hosts or [("localhost", None)]]
    options["ssl"] = url.scheme in ("rediss", "valkeys")
    if is_cluster:
        if db:
            raise ConfigError(f"{url}: a cluster has database 0 only")
        cluster = cast("Callable[..., Client]", RedisCluster)
        return lambda: cluster(startup_nodes=[ClusterNode(*node) for node in nodes], **options)

    if len(nodes) > 1:
        raise ConfigError(f"{url}: several hosts are a cluster's: add ?cluster=true")
    host, port = nodes[0]
    return lambda: one(host=host, port=port, db=db, **options)


def _watched(url: StorerURL, options: dict[str, object]) -> Callable[[], Client]:
    """The primary that Sentinels know by a name: `redis+sentinel://host,host:port/name/0`."""
    name, _, number = url.path.strip("/").partition("/")
    if not name or not url.hosts:
        raise ConfigError(f"{url}: give Sentinels and the name that they watch: redis+sentinel://host,host/name")

    options |= {"db": _database(url, number), "ssl": url.scheme in ("rediss+sentinel", "valkeys+sentinel")}
    nodes = [(host, port or 26379) for host, port in url.hosts]
    known = {
        "username": url.option("sentinel_username", str, None),
        "password": url.option("sentinel_password", str, None),
        "ssl": options["ssl"],
    }
    watchers = cast("Callable[..., Any]", Sentinel)  # redis-py gives it no types
    return lambda: cast("Client", watchers(nodes, sentinel_kwargs=known).master_for(name, **options))


def _database(url: StorerURL, path: str) -> int:
    if path and not path.isdecimal():
        raise ConfigError(f"{url}: the path is the number of a database: give /0, or none")
    db = url.option("db", at_least(0), None)
    if path and db is not None:
        raise ConfigError(f"{url}: the database comes twice: give /{path} or db={db}")
    return int(path or db or 0)
