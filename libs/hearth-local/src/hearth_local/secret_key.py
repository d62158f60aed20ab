"""The key of this home, with which agent-service encrypts the secrets of tools."""

import base64
import os
import secrets

from hearth_local.home import Home, StartError

KEY_BYTES = 32


def secret_key(home: Home) -> str:
    """HEARTH_SECRET_KEY where it is set; else the key in the home, which is made at the first start.

    Whoever loses it must set the secrets of tools again; everything else still works. Raises StartError where the file
    cannot be read or written.
    """
    if given := os.environ.get("HEARTH_SECRET_KEY"):
        return given
    path = home.path / "secret.key"
    try:
        if path.exists():
            return path.read_text(encoding="ascii").strip()
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        # Whole or not at all, and nobody else's to read; the home is locked, so nobody else writes.
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"The key of this home, {path}, cannot be used ({error}): mend the file, or set HEARTH_SECRET_KEY."
        ) from error
    return key
