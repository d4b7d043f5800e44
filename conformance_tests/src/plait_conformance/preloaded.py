"""What the process imports that test processes are forked from: plait, its server, and every installed plugin."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import plait.connecting
import plait.local  # noqa: F401
from plait.plugins import Plugins

import plait_conformance.crash
import plait_conformance.driven  # noqa: F401

Plugins()
if find_spec("plait_server") is not None:
    import_module("plait_server.serving")
