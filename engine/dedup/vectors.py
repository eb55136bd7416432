"""Conversion of embeddings between Arrow and NumPy without a Python object for each number or row."""

import numpy as np
import pyarrow as pa


def matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of equally long lists of float32, without nulls, as (rows, dimensions); without rows, as (0, 0)."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), -1 if len(whole) else 0)


def column(vectors: np.ndarray) -> pa.ListArray:
    """Return (rows, dimensions) as a column of lists."""
    rows, dimensions = vectors.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(dimensions)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(vectors, np.float32).ravel()))


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosine, row by row, of two arrays of unit vectors."""
    return np.einsum("ij,ij->i", left, right)
