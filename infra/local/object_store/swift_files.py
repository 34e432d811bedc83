"""Write the configuration of Swift's servers: one device, one copy of each object, no authentication service."""

from pathlib import Path

KINDS = ("account", "container", "object")
"""Swift's inner servers; the proxy server in front of them speaks S3."""

_PIPELINE = (
    "catch_errors gatekeeper cache listing_formats bulk s3api tempauth copy slo dlo "
    "versioned_writes symlink proxy-server"
)


def write_common(folder: Path) -> Path:
    """Write the configuration that all servers read; return its path."""
    path = folder / "swift.conf"
    path.write_text(
        "[swift-hash]\n"
        "swift_hash_path_prefix = local\n"  # a secret only in a store with several tenants
        "swift_hash_path_suffix = store\n"
        "[storage-policy:0]\n"
        "name = one\n"
        "default = yes\n"
    )
    return path


def write_inner(folder: Path, kind: str, address: str, port: int, devices: Path) -> Path:
    """Write an inner server's configuration and its ring of one device; return the path of the configuration."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(4, 1, 0)
    place = {"ip": address, "port": port, "replication_ip": address, "replication_port": port}
    builder.add_dev({"region": 1, "zone": 1, "device": "disk", "weight": 1, "meta": "", **place})
    builder.rebalance()
    ring = folder / f"{kind}.ring.gz"
    builder.get_ring().save(str(ring))
    ring.chmod(0o600)  # Swift would let all users read it
    path = folder / f"{kind}-server.conf"
    path.write_text(
        "[DEFAULT]\n"
        f"swift_dir = {folder}\n"
        f"devices = {devices}\n"
        f"bind_ip = {address}\n"
        f"bind_port = {port}\n"
        "mount_check = false\n"
        "disable_fallocate = true\n"
        "fallocate_reserve = 0\n"
        "log_level = ERROR\n"
        "[pipeline:main]\n"
        f"pipeline = {kind}-server\n"
        f"[app:{kind}-server]\n"
        f"use = egg:swift#{kind}\n"
    )
    return path


def write_outer(folder: Path, bind: str, port: int, region: str, users: dict[str, str]) -> Path:
    """Write the configuration of the proxy server, which has the S3 protocol; return its path.

    Args:
        folder: holds the file.
        bind: address to listen on.
        port: port to listen on.
        region: region for which requests must be signed.
        users: the secret of each key. A key has the form account:name; the name `admin` has all rights in its account.
    """
    plain = "".join(
        f"[filter:{name}]\nuse = egg:swift#{name}\n"
        for name in ("catch_errors", "gatekeeper", "listing_formats", "bulk", "copy", "slo", "dlo")
    )
    entries = "".join(
        f"user_{key.replace(':', '_')} = {secret}{' .admin' if key.endswith(':admin') else ''}\n"
        for key, secret in users.items()
    )
    path = folder / "proxy-server.conf"
    path.write_text(
        "[DEFAULT]\n"
        f"bind_ip = {bind}\n"
        f"bind_port = {port}\n"
        f"swift_dir = {folder}\n"
        "log_level = ERROR\n"
        "expose_info = false\n"
        f"[pipeline:main]\npipeline = {_PIPELINE}\n"
        f"{plain}"
        "[filter:symlink]\nuse = egg:swift#symlink\n"
        "[filter:versioned_writes]\nuse = egg:swift#versioned_writes\nallow_object_versioning = true\n"
        "[filter:cache]\npaste.filter_factory = memory_cache:filter_factory\n"
        f"[filter:s3api]\nuse = egg:swift#s3api\nlocation = {region}\ns3_acl = true\n"
        f"[filter:tempauth]\nuse = egg:swift#tempauth\n{entries}"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    )
    return path
