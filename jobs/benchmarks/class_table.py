"""Average precision of each class as a CSV file."""

import math
from collections.abc import Iterable


def precision_table(counted: str, rows: Iterable[tuple[int, str, int, float]]) -> bytes:
    """A line per class; its precision is left empty where there is nothing to be found.

    Args:
        counted: what there are so many of: the name of the third column.
        rows: number of a class, its name, how many there are, and the precision or nan.
    """
    lines = [f"number,class,{counted},average_precision"]
    for number, name, count, value in rows:
        quoted = '"' + name.replace('"', '""') + '"'
        lines.append(f"{number},{quoted},{count},{'' if math.isnan(value) else f'{value:.6f}'}")
    return ("\n".join(lines) + "\n").encode()
