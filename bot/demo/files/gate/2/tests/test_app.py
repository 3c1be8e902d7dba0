import unittest

import app


class AppTest(unittest.TestCase):
    def test_the_gate_is_closed_at_first(self):
        self.assertIn("closed", app.front_page({})[2])

    def test_nobody_enters_while_it_is_closed(self):
        self.assertEqual(app.enter({"ticket": "7"})[0], 503)
