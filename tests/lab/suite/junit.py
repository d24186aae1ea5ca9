"""Whether a report is one that readers of JUnit take: held to the schemas in use, which are fetched when first needed.

There is no official one. pytest's source has that of Jenkins' xunit plugin, the crate junit-report an older one of
Jenkins and Apache Ant's of 2011, which knows no skipped case: that apart, a report must hold to it too.
"""
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as xml
import zipfile
from pathlib import Path

from meshlab import config
from meshlab.build import Stage

PINNED = config.TOOLS / "junit" / "requirements.txt"
CRATE, VERSION = "junit-report", "0.9.1"
SCHEMAS = {
    "jenkins-10": "a1a816f58d1bf95ebabf371994df0b9246dee66ea9572fbec4f9296f1b2c0ff6",
    "jenkins-4": "9b4997865af119afd4643cc30c353c97bbf0214e591c89b3c5c5bc51a265fa67",
    "ant": "e0a9ce1fcca067035a0c74a7c67506bb3d74e6cc8ded16e43cf34da98c652972",
}


def _make(out):
    run = {"check": True, "stdout": subprocess.PIPE, "timeout": 180}
    fetched = out / "fetched"
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--require-hashes", "-r", PINNED, "-d", fetched], **run)
    for wheel in fetched.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out / "python")
    (source,) = fetched.glob("pytest-*.tar.gz")
    with tarfile.open(source) as archive:
        (name,) = [n for n in archive.getnames() if n.endswith("/junit-10.xsd")]
        texts = {"jenkins-10": archive.extractfile(name).read()}
    (out / "crate" / "src").mkdir(parents=True)
    (out / "crate" / "src" / "lib.rs").touch()
    manifest = out / "crate" / "Cargo.toml"
    manifest.write_text(f'[package]\nname = "schemas"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
                        f'[dependencies]\n{CRATE} = "={VERSION}"\n')
    told = subprocess.run(["cargo", "metadata", "--quiet", "--format-version=1", "--manifest-path", manifest], **run)
    (crate,) = [p for p in json.loads(told.stdout)["packages"] if p["name"] == CRATE]
    folder = Path(crate["manifest_path"]).with_name("tests")
    texts |= {"jenkins-4": (folder / "JUnit.xsd").read_bytes(), "ant": (folder / "JUnit-alternative.xsd").read_bytes()}
    for name, text in texts.items():
        found = hashlib.sha256(text).hexdigest()
        assert found == SCHEMAS[name], f"the schema {name} is another: {found}"
        (out / f"{name}.xsd").write_bytes(text)


def schemas():
    """Each by its name."""
    stage = Stage("junit", _make, PINNED, Path(__file__))
    if not stage.done():
        config.STORE.mkdir(parents=True, exist_ok=True)
        stage.build()
    if (libraries := os.fspath(stage.dir / "python")) not in sys.path:
        sys.path.append(libraries)
    import xmlschema  # not before it is there
    return {name: xmlschema.XMLSchema(stage.dir / f"{name}.xsd") for name in SCHEMAS}


def without_skipped(report):
    for element in report.iter():
        element.attrib.pop("skipped", None)
        for child in element.findall("skipped"):
            element.remove(child)
    return report


def faults(path):
    """What each schema says against a report, by its name."""
    found = {}
    for name, schema in schemas().items():
        report = xml.parse(path).getroot()
        report = without_skipped(report) if name == "ant" else report
        if odd := [f"{error.path}: {error.reason}" for error in schema.iter_errors(report)]:
            found[name] = odd
    return found
