"""Writes table.parquet, a table of embeddings with pyarrow's default settings.

These are nullable columns, dictionary encoding and Snappy compression.

    pip install pyarrow==26.0.1
    python tests/golden/make_table.py
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

table = pa.table(
    {
        "features": pa.array([[0.5, -0.25], [1.5, 2.0], [0.1, 0.2]], type=pa.list_(pa.float32())),
        "ids": pa.array([7, -2, 0], type=pa.int64()),
        "cameras": pa.array([1, 2, 1], type=pa.int32()),
        "paths": ["a.jpg", "Ordner/ä.jpg", "c.jpg"],
        "clothes": ["red", None, "blue"],
    }
)
parquet.write_table(table, Path(__file__).parent / "table.parquet")
