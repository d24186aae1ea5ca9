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
    know_server_by(cluster, "ca")
    node = f"system:node:{cluster.node_name}"
    addresses = _addresses(cluster)
    certificates = {
        "apiserver": _server(cluster),
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
    write_kubeconfigs(cluster)


def write_kubeconfigs(cluster):
    """For everything of the cluster that speaks to its API server: by the authorities it is known by now."""
    pki, inside = cluster.pki, f"https://{config.NODE_IP}:6443"
    for name in ("kubelet", "controller-manager", "scheduler", "proxy", "dns"):
        (pki / f"{name}.kubeconfig").write_text(kubeconfig([(cluster, name, inside)]))
    (pki / "cloud.kubeconfig").write_text(kubeconfig([(cluster, "cloud", cluster.server)]))


def know_server_by(cluster, *authorities):
    """The authorities that the API server is known by: those of clients are others, as on EKS."""
    pki = cluster.pki
    bundle = "".join((pki / f"{name}.crt").read_text() for name in authorities)
    aside = pki / "server-ca.new"
    aside.write_text(bundle)
    aside.rename(pki / "server-ca.crt")


def make_successor(cluster):
    """An authority that can take the place of the API server's; nobody knows it yet."""
    run("openssl", "req", "-x509", *_NEW_KEY, "-config", "openssl.cnf", "-extensions", "authority", "-days", "60",
        "-subj", f"/CN={cluster.name} successor", "-keyout", "next.key", "-out", "next.crt", cwd=cluster.pki)


def issue_server(cluster, authority):
    """A new certificate for the API server, which takes it up while it runs."""
    _issue(cluster.pki, "apiserver", *_server(cluster), authority)


def _addresses(cluster):
    return f"IP:{cluster.wan_ip},IP:{config.NODE_IP},IP:127.0.0.1"


def _server(cluster):
    names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    return "/CN=kube-apiserver", f"{names},IP:{config.KUBERNETES_IP},{_addresses(cluster)}"


def _issue(pki, name, subject, names, authority="ca"):
    extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature",
                  "-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    if names:
        extensions += ["-addext", f"subjectAltName={names}"]
    run("openssl", "req", "-x509", *_NEW_KEY, "-config", "openssl.cnf", "-days", "30", "-subj", subject, *extensions,
        "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-keyout", f"{name}.key.new", "-out",
        f"{name}.crt.new", cwd=pki)
    for kind in ("key", "crt"):
        (pki / f"{name}.{kind}.new").rename(pki / f"{name}.{kind}")


def kubeconfig(entries):
    """A kubeconfig from (cluster, user, server) entries, each a context named as its cluster."""

    def data(path):
        return base64.b64encode(path.read_bytes()).decode()

    text = ["apiVersion: v1", "kind: Config", f"current-context: {entries[0][0].name}", "clusters:"]
    for cluster, _, server in entries:
        text += [f"- name: {cluster.name}", "  cluster:", f"    server: {server}",
                 f"    certificate-authority-data: {data(cluster.pki / 'server-ca.crt')}"]
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
