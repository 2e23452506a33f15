"""Name the steps that Lakebed's operations report to a callback when they are done.

A callback that takes any text fits everywhere. Naming a step that no operation reports is a type
error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

TransactionStep = Literal["locked", "committed"]
FileStep = Literal["copied", "verified", "renamed"]
MoveStep = Literal[TransactionStep, FileStep, "counted", "recorded", "deleted"]
LakeCopyStep = Literal[TransactionStep, FileStep, "counted", "recorded"]
ExpireStep = Literal[TransactionStep, "superseded", "deleted"]
SweepStep = Literal["burnt", "removed"]
TidyStep = Literal["vacuumed", "dropped"]
HousekeepStep = Literal[ExpireStep, SweepStep, TidyStep, "given up"]
EraseStep = Literal[MoveStep, SweepStep, "opened", "rest", "closed"]
RestoreStep = Literal[
    TransactionStep, "checked", "copied", "written", "verified", "recorded", "closed"
]
LoadStep = Literal["extracted", "began", "copied", "written", "recorded", "committed"]
BuildStep = Literal["written", "named", "recorded", "committed"]
BackupStep = Literal["counted", "copied", "verified", "recorded", "committed"]
PutBackStep = Literal[TransactionStep, "staged", "written", "verified", "recorded"]
RollbackStep = Literal[TransactionStep, "gathered", "written", "verified", "recorded"]

OnTransactionStep = Callable[[TransactionStep], None]
OnFileStep = Callable[[FileStep], None]
OnMoveStep = Callable[[MoveStep], None]
OnLakeCopyStep = Callable[[LakeCopyStep], None]
OnExpireStep = Callable[[ExpireStep], None]
OnSweepStep = Callable[[SweepStep], None]
OnTidyStep = Callable[[TidyStep], None]
OnHousekeepStep = Callable[[HousekeepStep], None]
OnEraseStep = Callable[[EraseStep], None]
OnRestoreStep = Callable[[RestoreStep], None]
OnLoadStep = Callable[[LoadStep], None]
OnBuildStep = Callable[[BuildStep], None]
OnBackupStep = Callable[[BackupStep], None]
OnPutBackStep = Callable[[PutBackStep], None]
OnRollbackStep = Callable[[RollbackStep], None]
