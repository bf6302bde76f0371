"""Replaces directories of this machine by volumes, if an engine does not see its files.

Each image's startup directory has a volume, and the session's data directory has one. A *keeper*,
a container that is created but never started, mounts both: through it files are copied in, and at
the end of the run out. What the application's containers write into a volume outlives them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hcoverage import RCFILE_NAME
from hdocker._inject.added import OWN_LABEL, PLACE

if TYPE_CHECKING:
    from pathlib import Path

    from hdocker._engine.engine import Engine

# In the session's private directory; `_door` reads it at the end of the run.
KEEPERS: Final = "keepers"
DATA_NAME: Final = "data"
# Root: nobody on this machine has to own what is in a volume.
USER: Final = "0:0"
_OPEN: Final = 0o777


@dataclass(frozen=True)
class Volumes:
    """The volumes for an image's containers in a session.

    Attributes:
        engine: The engine that has them.
        startup: The name of the startup directory's volume.
        data: The name of the data directory's volume, which all images share.
        keeper: The id of the container that mounts both.
    """

    engine: Engine
    startup: str
    data: str
    keeper: str

    @classmethod
    def make(cls, engine: Engine, image: str, identity: str, session: Path) -> Volumes:
        """Create the volumes and their keeper.

        Args:
            engine: The engine.
            image: The image, which the engine has.
            identity: The image's id.
            session: The session's startup directory.

        Raises:
            EngineError: The engine cannot create them.
        """
        private = session.parent
        startup = f"{private.name}-{re.sub('[^0-9a-f]', '', identity)[:24]}"
        data = f"{private.name}-{DATA_NAME}"
        owner = f"{OWN_LABEL}={owner_of(private)}"
        keeper = engine.run(
            "create",
            *("--label", owner),
            *("--mount", _mount(startup, PLACE, owner)),
            *("--mount", _mount(data, f"{PLACE}/{DATA_NAME}", owner)),
            *("--entrypoint", "none"),
            image,
        ).strip()
        (private / KEEPERS).mkdir(exist_ok=True)
        told = {"keeper": keeper, "volumes": [startup, data]}
        (private / KEEPERS / f"{keeper}.json").write_text(json.dumps(told), "utf-8")
        return cls(engine, startup, data, keeper)

    def carry(self, startup: Path, data_dir: Path) -> None:
        """Copy a startup directory into its volume, and the rcfile into the data directory's.

        Raises:
            EngineError: The engine cannot copy.
            OSError: The startup directory cannot be prepared for that.
        """
        data = startup / DATA_NAME
        data.chmod(_OPEN)
        shutil.copy2(data_dir / RCFILE_NAME, data)
        self.engine.run("cp", f"{startup}/.", f"{self.keeper}:{PLACE}")


def owner_of(private: Path) -> str:
    """Return the owner of a volume: the host and the session's private directory."""
    return f"{os.uname().nodename}:{private}"


def _mount(volume: str, target: str, label: str) -> str:
    return f"type=volume,source={volume},target={target},volume-nocopy=true,volume-label={label}"
