"""Volumes of an engine that does not see this machine's files: what measures goes there by copying.

An image's startup directory has a volume, and so has the data directory of the session. A container
that is only created, never started, has both mounted: through it the engine lets files in, and at
the end out. What a container of the application leaves in a volume survives it, however it ends.
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

# What `_door` looks for at the end of the run, in the session's private directory.
KEEPERS: Final = "keepers"
DATA_NAME: Final = "data"
# Root's, since what is in a volume is nobody's here.
USER: Final = "0:0"
_OPEN: Final = 0o777


@dataclass(frozen=True)
class Volumes:
    """The volumes of an image, in a session.

    Attributes:
        engine: The engine that has them.
        startup: The name of that for the startup directory.
        data: The name of that for the data directory, of all images.
        keeper: The id of the container that has both.
    """

    engine: Engine
    startup: str
    data: str
    keeper: str

    @classmethod
    def make(cls, engine: Engine, image: str, identity: str, session: Path) -> Volumes:
        """Make them.

        Args:
            engine: The engine.
            image: The image, which is there.
            identity: Its id.
            session: The session's startup directory.

        Raises:
            EngineError: The engine does not.
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
        """Copy what is in a startup directory into its volume, and what containers read of data.

        Raises:
            EngineError: The engine does not.
            OSError: It cannot be made ready for that.
        """
        data = startup / DATA_NAME
        data.chmod(_OPEN)
        shutil.copy2(data_dir / RCFILE_NAME, data)
        self.engine.run("cp", f"{startup}/.", f"{self.keeper}:{PLACE}")


def owner_of(private: Path) -> str:
    """Tell whose a volume is, by the host and the session's private directory."""
    return f"{os.uname().nodename}:{private}"


def _mount(volume: str, target: str, label: str) -> str:
    return f"type=volume,source={volume},target={target},volume-nocopy=true,volume-label={label}"
