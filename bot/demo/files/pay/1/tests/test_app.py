import json
import unittest

import app


class AppTest(unittest.TestCase):
    def test_a_quote(self):
        _, _, text = app.quote({"amount": "40.00"})
        self.assertEqual(json.loads(text), {"amount": "40.00", "fee": "1.00"})

    def test_the_page_asks_for_an_amount(self):
        self.assertIn('name="amount"', app.front_page({})[2])
