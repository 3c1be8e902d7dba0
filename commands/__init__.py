"""One file per command, named as it is typed. `bot/app.py` lists them in help order; nothing registers itself."""
