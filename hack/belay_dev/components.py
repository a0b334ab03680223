"""The command line of each process of the control plane, and the configuration files they read. Pure but for those."""

import json
from collections.abc import Mapping

from belay_dev.kubeconfig import write_private
from belay_dev.layout import LOOPBACK, Layout, Ports

ISSUER = "https://kubernetes.default.svc.cluster.local"
HEALTH_PATHS = ("/livez", "/readyz", "/healthz")
AUDIT_MEGABYTES = 200
AUDIT_BACKUPS = 5

# What is of use where there is no node: no scheduler, no kubelet, so nothing that would run a pod.
CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
    "resourcequota-controller",
    "disruption-controller",
    "validatingadmissionpolicy-status-controller",
)


def etcd(layout: Layout, ports: Ports, different: Mapping[str, object] | None = None) -> list[str]:
    """Arguments for etcd: durable over our own restarts, though not over a power cut (no fsync).

    `different`: flags that replace those that stand here, or come beside them.
    """
    pki = layout.pki
    client, peer = f"https://{LOOPBACK}:{ports.etcd}", f"https://{LOOPBACK}:{ports.etcd_peer}"
    flags: dict[str, object] = {
        "name": "default",
        "data-dir": layout.etcd_data,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "cert-file": pki.server.cert,
        "key-file": pki.server.key,
        "client-cert-auth": "true",
        "trusted-ca-file": pki.ca,
        "peer-cert-file": pki.server.cert,
        "peer-key-file": pki.server.key,
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": pki.ca,
        "enable-grpc-gateway": "false",
        "unsafe-no-fsync": "true",
        "quota-backend-bytes": 8 << 30,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "log-level": "warn",
    }  # fmt: skip
    return _flags(flags | dict(different or {}))


def apiserver(layout: Layout, ports: Ports, *, audit: bool) -> list[str]:
    """Arguments for kube-apiserver: RBAC, nobody anonymous but for health, every request audited."""
    pki = layout.pki
    flags = {
        "bind-address": LOOPBACK,
        "advertise-address": LOOPBACK,
        "secure-port": ports.apiserver,
        # Endpoints may not hold a loopback address; the reconciler would log an error every 10 s.
        "endpoint-reconciler-type": "none",
        "tls-cert-file": pki.server.cert,
        "tls-private-key-file": pki.server.key,
        "client-ca-file": pki.ca,
        "authentication-config": layout.authentication,
        "authorization-mode": "RBAC",
        "etcd-servers": f"https://{LOOPBACK}:{ports.etcd}",
        "etcd-cafile": pki.ca,
        "etcd-certfile": pki.etcd_client.cert,
        "etcd-keyfile": pki.etcd_client.key,
        "service-account-issuer": ISSUER,
        "service-account-signing-key-file": pki.service_account_key,
        "service-account-key-file": pki.service_account_public_key,
        "service-cluster-ip-range": "10.0.0.0/24",
        "max-requests-inflight": 800,
        "max-mutating-requests-inflight": 400,
        # Without it a graceful end waits, up to a minute, for every client to drop its watches.
        "shutdown-watch-termination-grace-period": "2s",
        "profiling": "false",
    }
    return _flags(flags | (_audit_flags(layout) if audit else {}))


def _audit_flags(layout: Layout) -> dict[str, object]:
    return {
        "audit-policy-file": layout.audit_policy,
        "audit-log-path": layout.audit_log,
        "audit-log-format": "json",
        "audit-log-maxsize": AUDIT_MEGABYTES,
        "audit-log-maxbackup": AUDIT_BACKUPS,
    }


def controller_manager(layout: Layout, ports: Ports) -> list[str]:
    """Arguments for kube-controller-manager: each controller acts with its own service account."""
    pki = layout.pki
    return _flags({
        "kubeconfig": layout.controller_manager_kubeconfig,
        "bind-address": LOOPBACK,
        "secure-port": ports.controller_manager,
        "tls-cert-file": pki.server.cert,
        "tls-private-key-file": pki.server.key,
        "leader-elect": "false",
        "controllers": ",".join(CONTROLLERS),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": pki.service_account_key,
        "root-ca-file": pki.ca,
        "kube-api-qps": 100,
        "kube-api-burst": 200,
        # A quota that was made before the types it counts waits for this; the default is five minutes.
        "resource-quota-sync-period": "10s",
        "profiling": "false",
    })  # fmt: skip


def write_configuration(layout: Layout) -> None:
    """Write what the API server reads beside its flags."""
    anonymous = {"enabled": True, "conditions": [{"path": path} for path in HEALTH_PATHS]}
    authentication = {
        "apiVersion": "apiserver.config.k8s.io/v1beta1",  # v1 is unknown to the oldest Kubernetes we support
        "kind": "AuthenticationConfiguration",
        "anonymous": anonymous,
    }
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    write_private(layout.authentication, json.dumps(authentication))
    write_private(layout.audit_policy, json.dumps(policy))


def _flags(values: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]
