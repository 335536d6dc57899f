"""What is measured: one entry of ALL per row of the table."""

from .drop import Drop
from .far import FarHost
from .rest import Backlog, StartUp
from .smarthost import SmartHost

ALL = [
    SmartHost("1k-smarthost", 1024, 20_000, 1_000, "1 KB files to one host", seconds=420, peers=True),
    SmartHost("10k-smarthost", 10 * 1024, 20_000, 500, "10 KB files to one host", seconds=420),
    Drop(),
    FarHost(),
    Backlog(),
    StartUp(),
]
