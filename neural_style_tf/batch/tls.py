"""TLS: the files that encrypt the connection to a cluster, checked before anything starts."""

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.pictures import files

if TYPE_CHECKING:
    from distributed import Security


def check(address: str | None, paths: Sequence[str] | None) -> None:
    """Raises `UserError` for files that cannot be used, or not with this cluster.

    paths: the authority's certificate, the one of this machine, and its key.
    """
    if not paths:
        return
    if address is None:
        raise UsageError("--cluster-tls requires --cluster")
    if address == "local":
        raise UsageError("--cluster-tls is for other machines: leave it out with --cluster local")
    if not address.startswith("tls://"):
        raise UsageError(
            f"--cluster {address} is not encrypted: with --cluster-tls, use an address such as "
            "tls://HOST:8786"
        )
    for path in paths:
        files.open_to_read(path).close()
    try:
        context = ssl.create_default_context(cafile=paths[0])
    except (OSError, ValueError) as error:
        raise UserError(
            f"{paths[0]} holds no certificate of an authority ({files.reason(error)}): "
            "use a PEM file for --cluster-tls"
        ) from error
    try:
        # with some password, or OpenSSL would ask for that of a locked key
        context.load_cert_chain(paths[1], paths[2], password="")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{paths[1]} and {paths[2]} are not a certificate and its key, unlocked "
            f"({files.reason(error)}): use PEM files for --cluster-tls"
        ) from error


def security(address: str, paths: Sequence[str] | None) -> "Security":
    """What Dask encrypts with: these files, or those that its own settings name. Raises
    `UsageError` for an encrypted address without any."""
    from distributed import Security

    if paths:
        names = "tls_ca_file", "tls_client_cert", "tls_client_key"
        return Security(**dict(zip(names, paths, strict=True)), require_encryption=True)
    security = Security()
    if address.startswith("tls://") and not security.get_connection_args("client")["ssl_context"]:
        raise UsageError(f"--cluster {address} is encrypted: it requires --cluster-tls")
    return security
