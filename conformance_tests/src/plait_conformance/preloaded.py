"""What the process imports that test processes are forked from: plait, its server, and every installed plugin."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

import plait.connecting
import plait.local  # noqa: F401
from plait.errors import InvalidArgument
from plait.plugins import Plugins

import plait_conformance.crash
import plait_conformance.driven  # noqa: F401

_plugins = Plugins()
for _kind in _plugins.kinds:
    with suppress(InvalidArgument):  # What cannot be imported is told by the test that needs it.
        _plugins.adapter_class(_kind)
if find_spec("plait_server") is not None:
    import_module("plait_server.serving")
