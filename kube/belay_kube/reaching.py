"""Why an API server can't be reached, in words: which address, name, certificate or proxy is at fault, and what to do.

Pure.
"""

import os
import socket
import ssl
from dataclasses import dataclass

import aiohttp

_PROXY = "mend HTTPS_PROXY, or name the API server's host in NO_PROXY"


@dataclass(frozen=True)
class Source:
    """Where a process knows the API server from: what to do about each part of it."""

    address: str
    trust: str
    credential: str


KUBECONFIG = Source(
    address="see that it runs, and that `server` in the kubeconfig is its address",
    trust="`certificate-authority` in the kubeconfig must be the authority of this API server",
    credential="give the user in the kubeconfig a new one",
)
POD = Source(
    address="see that it runs, and that KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of the pod are its address",
    trust="`ca.crt` in the pod's ServiceAccount volume must be the authority of this API server",
    credential="see that the pod's ServiceAccount is there, and delete the pod: the next one gets a new one",
)


def unreachable(host: str, error: BaseException, seconds: float | None = None, source: Source = KUBECONFIG) -> str:
    """One line on a request to `host` that had no answer.

    Args:
        host: the API server's URL, as configured.
        error: what aiohttp raised.
        seconds: how long an answer was waited for, at most.
        source: where `host` and what is trusted were found.
    """
    return f"API server at {host} can't be reached: {_why(error, seconds, source)}"


def _why(error: BaseException, seconds: float | None, source: Source) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted ({_verification(error.certificate_error)}): {source.trust}"
        case aiohttp.ClientProxyConnectionError():
            proxy = error.host if error.port is None else f"{error.host}:{error.port}"
            return f"the proxy {proxy} does not answer ({_system(error)}): {_PROXY}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refuses ({error.status} {error.message}): {_PROXY}"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} is not resolved ({_system(error)}): {source.address}"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return f"that is no http or https address: {source.address}"
        case aiohttp.ClientConnectorSSLError():
            return f"no TLS with what answers there ({error.os_error}): {source.address}"
        case aiohttp.ClientConnectorError():
            return f"{_system(error)}: {source.address}"
        case TimeoutError():
            waited = f"within {seconds:.0f} s" if seconds else "in time"
            return f"no answer {waited}: {source.address}, and that no firewall or NetworkPolicy is between"
        case _:
            return f"the connection broke off ({error!r})"


def _system(error: aiohttp.ClientConnectorError) -> str:
    """What the system says, without the numbers and tuples it comes in."""
    cause = error.os_error
    if isinstance(cause, socket.gaierror) or not cause.errno:
        return (cause.strerror or str(cause)).lower()
    return os.strerror(cause.errno).lower()


def _verification(error: BaseException) -> str:
    return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
