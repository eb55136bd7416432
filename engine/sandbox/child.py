"""What runs behind the walls: the answer, then its tests with the answer's names, then the word that only the asker knows.

An answer that ends the process before its tests did is so found out. Nothing else of the engine is there.
"""

import os
import runpy

given = os.path.dirname(__file__)
word = os.read(0, 1000)
names = runpy.run_path(os.path.join(given, "answer.py"), run_name="answer")
runpy.run_path(os.path.join(given, "tests.py"), init_globals=names, run_name="tests")
os.write(1, b"\n" + word)
