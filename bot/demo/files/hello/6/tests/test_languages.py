import unittest

import greeting


class LanguagesTest(unittest.TestCase):
    def test_it_knows_some_languages(self):
        self.assertEqual(greeting.greet("Ada", "fr"), "Bonjour, Ada!")
        self.assertEqual(greeting.greet("Ada", "es"), "Hola, Ada!")

    def test_a_language_it_does_not_know_is_english(self):
        self.assertEqual(greeting.greet("", "tlh"), "Hello!")
