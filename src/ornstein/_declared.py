"""What the modules of a package declare about themselves, put together in one place.

A module says at its end what it adds, such as `ALL = (DDIM(), DDIM(1.0))`; the package reads that of all its modules. So a
newcomer is one file, and nothing else names it. Nothing is registered by being imported, and no order of imports matters.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any


def declared(package: str, name: str = "ALL", without: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """The members of the tuples `name` of the modules of a package, in the order of the modules' names.

    Modules `without` are not imported: those that declare nothing and need more than the package does.
    """
    modules = sorted({module.name for module in iter_modules(import_module(package).__path__)} - {*without})
    return tuple(each for module in modules for each in getattr(import_module(f"{package}.{module}"), name, ()))
