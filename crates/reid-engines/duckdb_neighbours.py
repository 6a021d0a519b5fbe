"""Finds the ten nearest gallery images of each query by a query of DuckDB, and compares them with the library's.

    target/release/examples/write_parquet --out target/parquet
    python3 duckdb_neighbours.py target/parquet

Needs `pip install duckdb`. DuckDB reads the Parquet files as they are. Two images may be in
another order if their similarities, which DuckDB rounds to single precision, differ by at most 2e-6. Exits with 1 if
other images are found.
"""

import argparse
import json
import sys
from pathlib import Path

import duckdb

NEAREST = """
    WITH ranked AS (
        SELECT
            q.file_row_number AS query,
            g.file_row_number AS image,
            array_cosine_similarity(q.features::FLOAT[{dimensions}], g.features::FLOAT[{dimensions}]) AS similarity
        FROM read_parquet('{query}', file_row_number = true) AS q
        CROSS JOIN read_parquet('{gallery}', file_row_number = true) AS g
    )
    SELECT query, image, similarity
    FROM ranked
    QUALIFY row_number() OVER (PARTITION BY query ORDER BY similarity DESC, image) <= {count}
    ORDER BY query, similarity DESC, image
"""
COUNT = 10
ROUNDING = 2e-6


def nearest(folder):
    """The nearest images of each query with their similarities, by DuckDB."""
    query, gallery = folder / "query.parquet", folder / "gallery.parquet"
    length = duckdb.sql(f"SELECT len(features) FROM read_parquet('{query}') LIMIT 1")
    [(dimensions,)] = length.fetchall()
    names = {"query": query, "gallery": gallery, "dimensions": dimensions, "count": COUNT}
    found = {}
    for row, image, similarity in duckdb.sql(NEAREST.format(**names)).fetchall():
        found.setdefault(row, {})[image] = similarity
    return found


def differs(found, expected):
    """Whether the images differ, or are in another order although their similarities differ by more than rounding."""
    if set(found) != set(expected):
        return True
    similarities = [found[image] for image in expected]
    return any(later > earlier + ROUNDING for earlier, later in zip(similarities, similarities[1:], strict=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder that write_parquet wrote")
    folder = parser.parse_args().folder
    expected = json.loads((folder / "nearest.json").read_text(encoding="utf-8"))
    found = nearest(folder)
    if sorted(found) != list(range(len(expected))):
        sys.exit(f"expected neighbours of {len(expected)} queries, found those of {len(found)}")
    for query, images in enumerate(expected):
        if differs(found[query], images):
            sys.exit(f"query {query}: expected {images}, DuckDB found {list(found[query])}")
    print(f"DuckDB {duckdb.__version__} finds the same {COUNT} nearest images of all {len(expected)} queries")


if __name__ == "__main__":
    main()
