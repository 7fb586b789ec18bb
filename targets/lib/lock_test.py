"""A target may have other versions of crates than the tree has."""

import os
import tempfile
import unittest
from dataclasses import replace
from unittest import mock

import family
import lock

PLAIN = family.load("mipsel-unknown-linux-musl")


class Lock(unittest.TestCase):
    def setUp(self):
        cache = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.dict(os.environ, ADIT_TARGETS_CACHE=cache))
        self.change = self.enterContext(mock.patch("lock._change", side_effect=lambda _, made: made.write_text("")))

    def test_most_targets_have_that_of_the_tree(self):
        self.assertEqual((lock.file(PLAIN), lock.options(PLAIN)), (lock.LOCK, []))

    def test_changed_one_is_made_once_for_the_same_versions(self):
        one, other = (replace(PLAIN, crates=(("libc", version),)) for version in ("0.2.1", "0.2.2"))
        files = [lock.file(one), lock.file(one), lock.file(other)]
        self.assertEqual([call.args[0] for call in self.change.call_args_list], [one.crates, other.crates])
        self.assertEqual(files[0], files[1])
        self.assertNotEqual(files[0], files[2])
        self.assertIn(str(files[0]), " ".join(lock.options(one)))

    def test_mips64_has_the_last_libc_with_its_socket_options(self):
        for triple in ("mips64-openwrt-linux-musl", "mips64el-unknown-linux-muslabi64"):
            crates = dict(family.load(triple).crates)
            self.assertLess(tuple(map(int, crates["libc"].split("."))), (0, 2, 190))
            # The order in which cargo accepts them: this mio before the older libc.
            self.assertEqual(list(crates), ["mio", "libc"])


if __name__ == "__main__":
    unittest.main()
