"""Removing one file: it is gone, its neighbour stays, and what is not there is no error; on a disk, in memory and on S3."""


def test_a_removed_file_is_gone_and_its_neighbour_stays(folder):
    for name in ("a/one", "a/two"):
        folder.write(name, b"x")
    folder.remove_file("a/one")
    assert folder.files() == ["a/two"] and not folder.exists("a/one")


def test_a_file_that_another_process_removed_is_no_error(folder):
    folder.write("one", b"x")
    folder.remove_file("one")
    folder.remove_file("one")
    assert folder.files() == []


def test_a_store_is_asked_for_no_listing(s3, monkeypatch):
    from engine.storage.folder import Folder

    folder = Folder(f"{s3}/removed")
    folder.write("a/one", b"x")
    monkeypatch.setattr(type(folder.fs), "_lsdir", None)  # what every listing of s3fs calls
    folder.remove_file("a/one")
