"""Linear operators, one file each."""

from precond.operators.convert import as_operator
from precond.operators.dense import DenseOperator
from precond.operators.function import FunctionOperator
from precond.operators.gram import GramOperator
from precond.operators.sparse import SparseOperator
from precond.operators.toeplitz import ToeplitzOperator

__all__ = ["DenseOperator", "FunctionOperator", "GramOperator", "SparseOperator", "ToeplitzOperator", "as_operator"]
