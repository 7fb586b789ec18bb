"""What `readelf` says of this machine's own programs is told apart from what a router needs."""

import sys
import unittest

import elf
from family import Elf

MIPS = "  Machine:                           MIPS R3000\n"
ARM = "  Machine:                           ARM\n  Flags:                             0x5000{}00, Version5 EABI, {}-float ABI\n"


class Problems(unittest.TestCase):
    def test_every_difference_is_named(self):
        found = " ".join(elf.problems(sys.executable, Elf(32, "big", "MIPS R3000", "soft")))
        for word in ("bits is 64", "endian is little", "machine is", "float_abi is hard", "INTERP", "DYNAMIC"):
            self.assertIn(word, found)

    def test_float_abi_is_read_where_each_machine_has_it(self):
        self.assertEqual(elf._float_abi(MIPS, "FP ABI: Soft float"), "soft")
        self.assertEqual(elf._float_abi(MIPS, "FP ABI: Hard float (double precision)"), "hard")
        self.assertEqual(elf._float_abi(ARM.format(2, "soft"), ""), "soft")
        self.assertEqual(elf._float_abi(ARM.format(4, "hard"), ""), "hard")


if __name__ == "__main__":
    unittest.main()
