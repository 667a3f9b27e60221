"""Several worker processes on one machine: the parent starts them, starts them again, and answers for all of them.

Its door is `Supervisor`. Nothing here imports a Kafka client or
gRPC: each process is a fresh interpreter that does so for itself (see worker.child)."""

from worker.processes.supervisor import Supervisor

__all__ = ["Supervisor"]
