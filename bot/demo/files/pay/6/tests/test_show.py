import unittest
from decimal import Decimal

import fees


class ShowTest(unittest.TestCase):
    def test_thousands_stand_apart(self):
        self.assertEqual(fees.show(Decimal("1234567.5")), "1\u2009234\u2009567.50")

    def test_small_amounts_stay_as_they_are(self):
        self.assertEqual(fees.show(Decimal("999.9")), "999.90")
