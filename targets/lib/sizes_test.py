"""What makes a size a failure."""

import unittest

import sizes


class Problems(unittest.TestCase):
    def problems(self, size, budget, before):
        return sizes.problems("a", {"bytes": size}, budget, before and {"bytes": before})

    def test_budget_may_be_used_up_and_not_exceeded(self):
        self.assertEqual(self.problems(1000, 1000, 1000), [])
        self.assertIn("1 more than its budget", self.problems(1001, 1000, 1000)[0])

    def test_growth_is_a_failure_only_above_three_percent(self):
        self.assertEqual(self.problems(1030, 2000, 1000), [])
        self.assertIn("--record", self.problems(1031, 2000, 1000)[0])
        self.assertEqual(self.problems(10, 2000, 1000), [])

    def test_size_without_a_record_is_a_failure(self):
        self.assertIn("no recorded size", self.problems(1000, 2000, None)[0])


if __name__ == "__main__":
    unittest.main()
