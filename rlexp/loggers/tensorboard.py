"""TensorBoard event files."""

from pathlib import Path

from rlexp.loggers.base import COUNTERS, Row


class TensorBoard:
    """TensorBoard event files, one scalar per metric."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else 0)

    def write(self, row: Row) -> None:
        for name, value in row.items():
            if name not in COUNTERS:
                self.writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self.writer.close()
