"""Runs a notebook's cells in the box that is made for it, and prints what went wrong where.

python -m course_utils.classroom.runner FILE

FILE: JSON, {"cells": sources, "seconds": of a cell, "megabytes": of a process}. A line of output is
[place of a cell, its error in words, whether that cut it short]. Only the judge says what is right;
this tells why nothing was handed in. A cell that can't be stopped, or takes the kernel with it, is
left out of a second run.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from course_utils.classroom.limits import limit
from course_utils.messages import _

MOST_RUNS = 5


class CutShort(Exception):
    """A cell had no end."""


class KernelLost(Exception):
    """The kernel died in a cell, or could not be had back from it."""


class Notebook(NotebookClient):
    """A notebook's cells, whose outputs nobody looks at."""

    def output(self, *_):
        """Keep nothing of what a cell prints or draws."""

    async def run_cell(self, place):
        """Its error in words, or "". Raises CutShort and KernelLost."""
        told = []
        self.on_cell_executed = lambda execute_reply, **_: told.append(execute_reply["content"])
        try:
            await self.async_execute_cell(self.nb.cells[place], place)
        except CellTimeoutError:
            await self.interrupt()
            raise CutShort(self.no_end()) from None
        except DeadKernelError:
            raise KernelLost(_("the kernel died")) from None
        if not told or told[0].get("status") == "ok":
            return ""
        return f"{told[0].get('ename', 'stopped')}: {told[0].get('evalue', '')}"

    async def interrupt(self):
        """Stop a cell as Ctrl-C would, and wait until the kernel listens again."""
        try:
            await self.km.interrupt_kernel()
            await self.kc.wait_for_ready(timeout=10)
        except RuntimeError:
            raise KernelLost(self.no_end()) from None

    def no_end(self):
        return _("no end after {seconds:g} s", seconds=self.timeout)


def tell(place, words, cut=True):
    print(json.dumps([place, words[:1000], cut]), flush=True)


async def run(sources, seconds, left_out):
    """All cells but those left out. -> whether the kernel lived to the end"""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = Notebook(
        nbformat.v4.new_notebook(cells=cells),
        kernel_name="python3",
        timeout=seconds,
        startup_timeout=600,  # on a machine with much to do; the minutes of all are bounded too
        allow_errors=True,
        store_widget_state=False,
        skip_cells_with_tag="",
    )
    notebook.create_kernel_manager()
    if os.name == "posix":
        notebook.km.transport = "ipc"  # a Unix socket: there is no network in the box
    async with notebook.async_setup_kernel():
        for place in range(len(cells)):
            if place in left_out:
                continue
            try:
                if error := await notebook.run_cell(place):
                    tell(place, error, cut=False)
            except CutShort as short:
                tell(place, str(short))
            except KernelLost as lost:
                tell(place, str(lost))
                left_out.add(place)
                return False
    return True


def main(file):
    order = json.loads(Path(file).read_text(encoding="utf-8"))
    limit(order["megabytes"])
    left_out = set()
    for _again in range(MOST_RUNS):
        if asyncio.run(run(order["cells"], order["seconds"], left_out)):
            return
    for place in range(len(order["cells"])):
        tell(place, _("too many cells that never end, or end the kernel"), cut=False)


if __name__ == "__main__":
    main(sys.argv[1])
