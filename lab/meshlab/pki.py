"""Each cluster's own certificate authority and certificates: made at `up`, gone at `down`."""
import base64

from . import config
from .shell import run, side_by_side

_OPENSSL = """
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier = hash
"""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make(cluster):
    pki = cluster.pki
    pki.mkdir(parents=True, mode=0o700)
    (pki / "openssl.cnf").write_text(_OPENSSL)
    run("openssl", "req", "-x509", *_NEW_KEY, "-config", "openssl.cnf", "-extensions", "authority", "-days", "30",
        "-subj", f"/CN={cluster.name}", "-keyout", "ca.key", "-out", "ca.crt", cwd=pki)
    node = f"system:node:{cluster.node_name}"
    addresses = f"IP:{cluster.wan_ip},IP:{config.NODE_IP},IP:127.0.0.1"
    api_names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    certificates = {
        "apiserver": ("/CN=kube-apiserver", f"{api_names},IP:{config.KUBERNETES_IP},{addresses}"),
        "apiserver-kubelet": ("/O=system:masters/CN=apiserver-kubelet", None),
        "kubelet": (f"/O=system:nodes/CN={node}", f"DNS:{cluster.node_name},{addresses}"),
        "controller-manager": ("/CN=system:kube-controller-manager", None),
        "scheduler": ("/CN=system:kube-scheduler", None),
        "proxy": ("/CN=system:kube-proxy", None),
        "dns": ("/O=system:masters/CN=lab-dns", None),
        "cloud": ("/O=system:masters/CN=lab-cloud", None),
        "operator": (f"/O=system:masters/CN={config.OPERATOR_USER}", None),
    }
    side_by_side(
        lambda: run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-accounts.key",
                    cwd=pki),
        *(lambda n=name, s=subject, a=names: _issue(pki, n, s, a) for name, (subject, names) in certificates.items()))
    inside, outside = f"https://{config.NODE_IP}:6443", cluster.server
    for name in ("kubelet", "controller-manager", "scheduler", "proxy", "dns"):
        (pki / f"{name}.kubeconfig").write_text(kubeconfig([(cluster, name, inside)]))
    (pki / "cloud.kubeconfig").write_text(kubeconfig([(cluster, "cloud", outside)]))


def _issue(pki, name, subject, names):
    extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature",
                  "-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    if names:
        extensions += ["-addext", f"subjectAltName={names}"]
    run("openssl", "req", "-x509", *_NEW_KEY, "-config", "openssl.cnf", "-days", "30", "-subj", subject, *extensions,
        "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", f"{name}.key", "-out", f"{name}.crt", cwd=pki)


def kubeconfig(entries):
    """A kubeconfig from (cluster, user, server) entries, each a context named as its cluster."""

    def data(path):
        return base64.b64encode(path.read_bytes()).decode()

    text = ["apiVersion: v1", "kind: Config", f"current-context: {entries[0][0].name}", "clusters:"]
    for cluster, _, server in entries:
        text += [f"- name: {cluster.name}", "  cluster:", f"    server: {server}",
                 f"    certificate-authority-data: {data(cluster.pki / 'ca.crt')}"]
    text.append("users:")
    for cluster, user, _ in entries:
        text += [f"- name: {user}-{cluster.name}", "  user:",
                 f"    client-certificate-data: {data(cluster.pki / f'{user}.crt')}",
                 f"    client-key-data: {data(cluster.pki / f'{user}.key')}"]
    text.append("contexts:")
    for cluster, user, _ in entries:
        text += [f"- name: {cluster.name}", "  context:", f"    cluster: {cluster.name}",
                 f"    user: {user}-{cluster.name}"]
    return "\n".join(text) + "\n"


def operator_kubeconfig(clusters):
    return kubeconfig([(c, "operator", c.server) for c in clusters])
