"""Make .venv and install Ornstein in it, once: `python3 bootstrap.py [extra ...]`.

Nothing but the standard library is needed. What was installed is remembered in `.venv/installed-<extras>` as a digest of
the files that decide it, so a second call returns at once and a changed pyproject.toml installs again.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def main(extras: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (this file runs before anything is checked)
        print(f"Ornstein needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    sources = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    digest = hashlib.sha256(sources + sys.version.encode()).hexdigest()
    stamp = VENV / "-".join(["installed", *sorted(extras)])
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == digest:
        return 0
    if not PYTHON.exists():
        print("Making .venv ...", flush=True)
        try:
            venv.EnvBuilder(with_pip=True, clear=VENV.exists()).create(VENV)
        except (subprocess.CalledProcessError, OSError) as error:
            hint = "install Python's venv module (on Debian: apt-get install python3-venv) and try again"
            print(f"Could not make {VENV}: {error}; {hint}.", file=sys.stderr)
            return 1
    what = f".[{','.join(sorted(extras))}]" if extras else "."
    print(f"Installing ornstein {what} into .venv (once; a few minutes on a slow network) ...", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*command, "--constraint", "constraints.txt", "--editable", what], cwd=ROOT)
    if result.returncode:
        print("The installation failed; pip's message is above. Nothing was marked as installed.", file=sys.stderr)
        return 1
    stamp.write_text(digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
