"""A certificate authority of the node's own, and the gateway's certificate from it."""
import os
import subprocess

import layout


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make(state_dir, name, addresses):
    """Makes STATE/ca.pem and STATE/gateway/{cert,key}.pem for these names; what fits is kept. Returns the CA's path."""
    ca, ca_key = os.path.join(state_dir, "ca.pem"), os.path.join(state_dir, "ca.key")
    folder = os.path.join(state_dir, "gateway")
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    names = ",".join(sorted({f"DNS:{name}", "DNS:localhost", "IP:127.0.0.1", "IP:::1",
                             *(f"IP:{a}" for a in addresses)}))
    stamp = os.path.join(folder, "names")
    if os.path.exists(ca) and os.path.exists(cert) and read(stamp) == names and fresh(cert):
        return ca
    old = os.umask(0o077)
    try:
        if not (os.path.exists(ca) and os.path.exists(ca_key) and fresh(ca)):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                    "-keyout", ca_key, "-out", ca, "-subj", f"/CN=Atoll CA of {name}",
                    "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        request, extensions = os.path.join(folder, "request.pem"), os.path.join(folder, "extensions")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                request, "-subj", f"/CN={name}")
        with open(extensions, "w", encoding="utf-8") as out:
            out.write(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
                      "keyUsage=digitalSignature\n")
        openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "730", "-out",
                cert, "-extfile", extensions)
        os.unlink(request)
        os.unlink(extensions)
        with open(stamp, "w", encoding="utf-8") as out:
            out.write(names)
    finally:
        os.umask(old)
    os.chmod(ca, 0o644)
    for path in (cert, key):
        layout.make_file(path, "atoll-gateway", 0o600 if path == key else 0o644)
    return ca


def read(path):
    try:
        with open(path, encoding="utf-8") as text:
            return text.read()
    except OSError:
        return None


def fresh(path):
    """Good for a week more?"""
    done = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-checkend", "604800"], capture_output=True,
                          check=False)
    return done.returncode == 0
