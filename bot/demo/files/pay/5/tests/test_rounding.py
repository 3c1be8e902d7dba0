import unittest
from decimal import Decimal

import fees


class RoundingTest(unittest.TestCase):
    def test_every_half_cent_rounds_up(self):
        for amount, expected in (("1.00", "0.03"), ("19.00", "0.48"), ("21.00", "0.53"), ("107.00", "2.68")):
            with self.subTest(amount):
                self.assertEqual(fees.show(fees.fee(Decimal(amount), Decimal("2.5"))), expected)

    def test_less_than_half_a_cent_rounds_down(self):
        self.assertEqual(fees.show(fees.fee(Decimal("10.10"), Decimal("2.5"))), "0.25")
