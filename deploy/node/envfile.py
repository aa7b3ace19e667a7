"""KEY=VALUE files that a shell can read too, for nobody but root."""
import os


def read(path):
    try:
        with open(path, encoding="utf-8") as text:
            return dict(line.rstrip("\n").split("=", 1) for line in text if "=" in line and not line.startswith("#"))
    except OSError:
        return {}


def write(path, values):
    part = path + ".part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as out:
        os.fchmod(out.fileno(), 0o600)
        out.writelines(f"{key}={value}\n" for key, value in values.items())
    os.replace(part, path)
