"""How read models follow from the log: pure folds, and the projector that runs them. Imports domain.

One file a projection: its row types (tables, columns and comments follow from them), its fold.
A file is registered by being there. `projection` is the door through which one is declared (its forms stand in `forms`
and `keyed`, what a fold reads and writes in `changes`), `projector` runs them.
"""

from domain.discovery import load_siblings

load_siblings(__name__, list(__path__))
