"""What is full is said with the place and the way out, whoever raised it; other errors stay what they are."""

import errno

import pytest

from engine.errors import InputError, StorageError, StoreUnreachable
from jobs.terminal.errors import unwrap_error

WORKER = "ray::map() (pid=7, ip=10.0.0.3)\n  File x, line 1\n{raised}"


class OutOfDiskError(Exception):
    """As Ray's own, of whose name and text alone is made use."""

    __module__ = "ray.exceptions"


class OutOfMemoryError(RuntimeError):
    """As that of torch, which is of a GPU."""

    __module__ = "torch"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OutOfDiskError("Local disk is full"), "object store is full, and so is the disk"),
        (
            RuntimeError(WORKER.format(raised="ray.exceptions.OutOfDiskError: Local disk is full")),
            "node 10.0.0.3: the object store",
        ),
        (RuntimeError(WORKER.format(raised="ray.exceptions.ObjectStoreFullError: full")), "ray.object_store_gib"),
        (RuntimeError(WORKER.format(raised="ray.exceptions.OutOfMemoryError: Task was killed")), "the memory is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "/tmp/x"),
        (RuntimeError(WORKER.format(raised="OSError: [Errno 28] No space left on device: '/tmp/y'")), "/tmp/y"),
    ],
)
def test_what_is_full_is_said_with_the_way_out(error, words):
    error.add_note("This ended the job dataset.")
    found = unwrap_error(error)
    assert type(found) is StorageError and words in str(found) and "What was paid for is kept" in str(found)
    assert found.__notes__ == ["This ended the job dataset."]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("OutOfRange"),
        OSError(errno.EIO, "bad disk"),
        InputError("x"),
        KeyError("memory"),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError(WORKER.format(raised="torch.OutOfMemoryError: CUDA out of memory.")),
        RuntimeError(WORKER.format(raised="torch.cuda.OutOfMemoryError: CUDA out of memory.")),
    ],
)
def test_other_errors_stay(error):
    assert unwrap_error(error) is error


def test_a_worker_that_lost_its_store_is_no_bug():
    found = unwrap_error(RuntimeError(WORKER.format(raised="engine.errors.StoreUnreachable: s3://b/x: cannot be reached\n\nThe")))
    assert type(found) is StoreUnreachable and str(found) == "s3://b/x: cannot be reached"


def test_what_was_full_is_found_behind_a_log_that_could_not_be_written():
    try:
        try:
            raise OutOfDiskError("Local disk is full")
        except OutOfDiskError:
            raise OSError(errno.ENOSPC, "No space left on device")  # noqa: B904
    except OSError as error:
        assert "object store is full, and so is the disk" in str(unwrap_error(error))
