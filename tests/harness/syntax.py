"""Compiles Python files in memory: only whether they can be read."""
import sys

bad = 0
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as text:
        try:
            compile(text.read(), name, "exec")
        except SyntaxError as error:
            bad += 1
            print(f"{name}:{error.lineno}: {error.msg}")
sys.exit(1 if bad else 0)
