"""Certificate authorities for scenarios: made for one run, in the lab's own folder."""
import subprocess

from meshlab import config

_SETTINGS = """
[req]
distinguished_name = name
prompt = no
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:istiod.istio-system.svc
"""


def folder(root):
    return config.RUN / "suite" / root


def make_root(root):
    at = folder(root)
    at.mkdir(parents=True, exist_ok=True)
    (at / "openssl.cnf").write_text(_SETTINGS)
    _openssl(at, "root", f"/O=Lab/CN={root}", "root")


def cacerts(root, cluster):
    """The Secret from which istiod takes its certificate authority."""
    at = folder(root)
    _openssl(at, "intermediate", f"/O=Lab/CN={cluster.name} of {root}", cluster.name,
             "-CA", "root.crt", "-CAkey", "root.key")
    own, top = (at / f"{cluster.name}.crt").read_text(), (at / "root.crt").read_text()
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "stringData": {"ca-cert.pem": own, "ca-key.pem": (at / f"{cluster.name}.key").read_text(),
                           "root-cert.pem": top, "cert-chain.pem": own + top}}


def root_of(root):
    return (folder(root) / "root.crt").read_text()


def _openssl(at, extensions, subject, name, *how):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-config", "openssl.cnf", "-extensions", extensions, "-days", "30", "-subj", subject,
                    "-keyout", f"{name}.key", "-out", f"{name}.crt", *how], cwd=at, check=True, capture_output=True)
