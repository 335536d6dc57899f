"""What is measured: one entry of ALL per row of the table."""

from .big import Big
from .drop import Drop
from .far import FarHost
from .inbound import Inbound
from .latency import Latency
from .many import ManyRecipients
from .million import PickupMillion, QueueMillion
from .rest import Backlog, StartUp
from .smarthost import SmartHost

ALL = [
    SmartHost("1k-smarthost", 1024, 20_000, 1_000, "1 KB files to one host", seconds=510, peers=True),
    SmartHost("10k-smarthost", 10 * 1024, 20_000, 500, "10 KB files to one host", seconds=360),
    SmartHost("100k-smarthost", 100 * 1024, 10_000, 100, "100 KB files to one host", seconds=400, postfix=10),
    Big(),
    Drop(),
    FarHost(),
    Latency(),
    Inbound(),
    QueueMillion(),
    PickupMillion(),
    ManyRecipients(),
    Backlog(),
    StartUp(),
]
