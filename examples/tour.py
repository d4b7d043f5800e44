# %% [markdown]
# # A tour of plait
#
# One history for data that lives in many stores: here a table (Iceberg) and objects (files), committed together,
# branched, compared, merged down to rows, and taken back. It runs in a minute, in a folder of its own.

# %%
import tempfile
from pathlib import Path

import plait
import pyarrow as pa
from plait.errors import CommitConflict

folder = Path(tempfile.mkdtemp(prefix="plait-tour-"))
catalog = plait.init(folder, example=True)
catalog

# %% [markdown]
# What it holds now. Every answer is a list or an iterator of plain values that draws itself, and has `to_arrow()`.

# %%
catalog.at("main")

# %%
catalog.log()

# %% [markdown]
# ## One commit over both stores
#
# Native handles: a pyiceberg `Table`, an fsspec filesystem. The block is one commit, or none.

# %%
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("item", pa.string()), ("price", pa.int64())])

with catalog.transaction(message="An order of vanilla") as tx:
    tx.open("lake.sales.orders").append(pa.table([[7], ["vanilla"], [21]], schema=SCHEMA))
    tx.open("raw.landing").pipe("7.json", b'{"id": 7, "item": "vanilla", "price": 21}\n')

catalog.diff("main~1", "main")

# %%
catalog.diff_items("lake.sales.orders", "main~1", "main")

# %% [markdown]
# ## Branches, and merges of rows
#
# `more-orders` was begun before the last two commits. Both sides appended to the table; nothing is lost.

# %%
merged = catalog.merge("more-orders")
rows = catalog.at("main").open("lake.sales.orders").scan().to_arrow().sort_by("id")
assert rows.column("id").to_pylist() == [1, 2, 3, 4, 5, 6, 7]
rows

# %% [markdown]
# ## A conflict is a list, and waits
#
# Two people price tea.

# %%
catalog.create_branch("pricing")
for branch, price in (("main", 5), ("pricing", 6)):
    with catalog.transaction(branch, message=f"Tea is {price}") as tx:
        tx.open("lake.sales.orders").overwrite(pa.table([[1], ["tea"], [price]], schema=SCHEMA), "id = 1")

try:
    catalog.merge("pricing")
except CommitConflict as conflict:
    waiting = catalog.working_set(conflict.details["tx"])

waiting.conflicts()

# %%
waiting.resolve("lake.sales.orders", plait.Choice.THEIRS, item="id=1")
waiting.commit()
assert catalog.at("main").open("lake.sales.orders").scan("id = 1").to_arrow().column("price").to_pylist() == [6]

# %% [markdown]
# ## Who, when, and back again

# %%
catalog.blame("lake.sales.orders")

# %%
catalog.restore("main~3", keys=["raw.landing"], message="Objects as they were before the vanilla")
catalog.diff_items("raw.landing", "main~1", "main")

# %% [markdown]
# Nothing is wrong: every record of the chain, every node, every file and its checksum.

# %%
assert list(catalog.verify(plait.Depth.BYTES)) == []
catalog.log().to_arrow().select(["message", "author", "at"])

# %%
catalog.close()
