import unittest

import app


class PageTest(unittest.TestCase):
    def test_the_page_says_why_it_is_closed(self):
        self.assertIn("waiting for upstream ledger at 127.0.0.1:9", app.front_page({})[2])
