"""Why an API server can't be reached, as a table from what the client raises to what people read."""

import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from belay_kube.reaching import POD, unreachable

KEY = ConnectionKey("api.example", 6443, True, True, None, None, None, None)
PROXY = ConnectionKey("proxy.example", 3128, False, True, None, None, None, None)
REFUSED = OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 6443)")


def _mistrust(said: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {said}")
    error.verify_message = said
    return error


SAID: dict[str, tuple[BaseException, str]] = {
    "nobody listens": (aiohttp.ClientConnectorError(KEY, REFUSED), "connection refused: see that it runs"),
    "no route": (aiohttp.ClientConnectorError(KEY, OSError(errno.ENETUNREACH, "x")), "network is unreachable: see"),
    "many addresses": (
        aiohttp.ClientConnectorError(KEY, OSError("Multiple exceptions: a, b")),
        "multiple exceptions: a, b: see that it runs",
    ),
    "no such name": (
        aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
        "the name api.example is not resolved (name or service not known): see that it runs, and that `server`",
    ),
    "another authority": (
        aiohttp.ClientConnectorCertificateError(KEY, _mistrust("unable to get local issuer certificate")),
        "its certificate is not trusted (unable to get local issuer certificate): `certificate-authority`",
    ),
    "not TLS": (
        aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL] record layer failure")),
        "no TLS with what answers there (",
    ),
    "no proxy": (
        aiohttp.ClientProxyConnectionError(PROXY, REFUSED),
        "the proxy proxy.example:3128 does not answer (connection refused): mend HTTPS_PROXY",
    ),
    "proxy refuses": (
        aiohttp.ClientHttpProxyError(
            aiohttp.RequestInfo(URL("http://x"), "CONNECT", CIMultiDictProxy(CIMultiDict()), URL("http://x")),
            (),
            status=407,
            message="Proxy Authentication Required",
        ),
        "the proxy refuses (407 Proxy Authentication Required): mend HTTPS_PROXY",
    ),
    "silence": (TimeoutError(), "no answer within 30 s: see that it runs"),
    "no address": (aiohttp.InvalidURL("x y"), "that is no http or https address: see"),
    "another scheme": (aiohttp.NonHttpUrlClientError("ftp://x"), "that is no http or https address: see"),
    "broken off": (aiohttp.ServerDisconnectedError(), "the connection broke off (ServerDisconnectedError("),
}


@pytest.mark.parametrize(("error", "said"), SAID.values(), ids=SAID)
def test_what_is_at_fault_is_said(error: BaseException, said: str) -> None:
    """The address as it was configured, what is wrong, and what to do; no numbers and tuples of the system's."""
    line = unreachable("https://api.example:6443", error, 30)
    assert line.startswith(f"API server at https://api.example:6443 can't be reached: {said}")
    assert "ConnectionKey" not in line
    assert "errno" not in line.lower()


OF_A_POD = {
    "no such name": "and that KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of the pod are its address",
    "another authority": "`ca.crt` in the pod's ServiceAccount volume must be the authority of this API server",
}


@pytest.mark.parametrize("fault", OF_A_POD)
def test_to_a_pod_is_said_what_it_can_mend(fault: str) -> None:
    """It has no kubeconfig."""
    line = unreachable("https://10.96.0.1:443", SAID[fault][0], 30, POD)
    assert line.endswith(OF_A_POD[fault])
    assert "kubeconfig" not in line
