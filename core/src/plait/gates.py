"""Gates: plugins that may refuse a commit before it happens. No lock is held while they run; a late answer refuses."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, wait
from typing import TYPE_CHECKING

from plait import limits
from plait.errors import ProposalRejected
from plait.hookspecs import Verdict
from plait.plugins import Plugins
from plait.types import Change, Proposal, Unchanged

if TYPE_CHECKING:
    from plait.catalog import Catalog


class Gates:
    """Asks every plugin that implements `plait_check_proposal`."""

    def __init__(self, plugins: Plugins, executor: Executor, gate_us: int = limits.GATE_US_MAX) -> None:
        self._plugins = plugins
        self._executor = executor
        self._gate_us = gate_us

    @property
    def are_there(self) -> bool:
        return self._plugins.has("plait_check_proposal")

    def check(self, proposal: Proposal, changes: Sequence[Change], catalog: Catalog) -> tuple[Unchanged, ...]:
        """Ask every gate. Returns: the reads that their verdicts depend on; the commit requires them unchanged.

        Raises: ProposalRejected with the gate's name and the reason: it refused, failed, or was too slow.
        """
        reads: list[Unchanged] = []
        for gate in self._plugins.manager.hook.plait_check_proposal.get_hookimpls():
            asked = {"proposal": proposal, "changes": changes, "catalog": catalog}
            call = self._executor.submit(gate.function, **{name: asked[name] for name in gate.argnames})
            seconds = self._gate_us / 1_000_000
            if not wait([call], timeout=seconds).done:
                call.cancel()
                raise ProposalRejected(
                    f"gate {gate.plugin_name!r} did not answer within {seconds:g} s",
                    remedy="repair or uninstall the gate",
                )
            try:
                verdict: Verdict | None = call.result()  # type: ignore[assignment]
            except Exception as error:
                raise ProposalRejected(
                    f"gate {gate.plugin_name!r} failed: {error}",
                    remedy="repair or uninstall the gate",
                ) from error
            if verdict is None:
                continue
            if not verdict.allowed:
                raise ProposalRejected(f"gate {gate.plugin_name!r} refused: {verdict.reason}", remedy=verdict.remedy)
            reads.extend(verdict.reads)
        return tuple(reads)
