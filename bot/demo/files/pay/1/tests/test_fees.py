import unittest
from decimal import Decimal

import fees


class FeesTest(unittest.TestCase):
    def test_a_plain_fee(self):
        self.assertEqual(fees.show(fees.fee(Decimal("100.00"), Decimal("2.5"))), "2.50")

    def test_half_a_cent_rounds_up(self):
        fee = fees.fee(Decimal("107.00"), Decimal("2.5"))
        self.assertEqual(fees.show(fee), "2.68", "2.5 % of 107.00 is 2.675, and the contract rounds half a cent up")

    def test_what_is_no_amount_is_told(self):
        with self.assertRaisesRegex(ValueError, "'ten' is not an amount"):
            fees.parse_amount("ten")
