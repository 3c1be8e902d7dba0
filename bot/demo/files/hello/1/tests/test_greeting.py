import unittest

import app
import greeting


class GreetingTest(unittest.TestCase):
    def test_it_greets(self):
        self.assertEqual(greeting.greet(), "Hello!")

    def test_the_page_shows_the_greeting(self):
        status, _, text = app.front_page({})
        self.assertEqual(status, 200)
        self.assertIn("Hello!", text)
