import unittest

import fees


class RangeTest(unittest.TestCase):
    def test_amounts_outside_the_range_are_refused(self):
        for text in ("-1", "1000000", "NaN", "Infinity"):
            with self.subTest(text), self.assertRaises(ValueError):
                fees.parse_amount(text)

    def test_the_edges_are_amounts(self):
        self.assertEqual(
            [fees.show(fees.parse_amount(text)) for text in ("0", "999999.99")], ["0.00", "999\u2009999.99"]
        )
