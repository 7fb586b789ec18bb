"""The files of the families, and the README's table of them."""

import tomllib
import unittest

import family


class Families(unittest.TestCase):
    def test_every_family_has_its_rows_in_the_readme(self):
        rows = [line for line in (family.TARGETS / "README.md").read_text().splitlines() if line.startswith("| ")]
        for triple in family.triples():
            each, data = family.load(triple), tomllib.loads((family.TARGETS / f"{triple}.toml").read_text())
            architectures = ", ".join(f"`{name}`" for name in data["openwrt"])
            cells = f"| {architectures} | `{triple}` | {each.elf.float_abi} | {each.tier} | {each.builds[0].budget:,} |"
            beginning = f"| {data['boxes']} | {data['chips']} {cells}"
            self.assertTrue(any(row.startswith(beginning) for row in rows), beginning)
            flags = f"| `{triple}` | `{' '.join(each.clang)}` | `{each.qemu_cpu}` |"
            self.assertIn(flags, rows)

    def test_tiers_are_named_as_a_whole(self):
        self.assertEqual(family.named(["tier1"]) + family.named(["tier2"]), family.triples(1) + family.triples(2))
        self.assertEqual(family.named(["x86_64-unknown-linux-musl"]), ["x86_64-unknown-linux-musl"])

    def test_unknown_triple_names_the_known_ones(self):
        with self.assertRaisesRegex(family.TargetsError, "mipsel-unknown-linux-musl"):
            family.load("mipsle-unknown-linux-musl")


if __name__ == "__main__":
    unittest.main()
